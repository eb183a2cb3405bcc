package orders

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
)

const (
	queueKey   = "shop:queue"   // IDs to ship
	workingKey = "shop:working" // IDs being shipped
	listKey    = "shop:list"    // cached list as JSON
)

// ErrEmpty is returned by Ship when nothing came into the queue in time.
var ErrEmpty = errors.New("the queue is empty")

// Order is one order.
type Order struct {
	ID       int64  `json:"id"`
	Item     string `json:"item"`
	Quantity int    `json:"quantity"`
	State    string `json:"state"` // "new" or "shipped"
}

// Shop holds the connections to both servers.
type Shop struct {
	db    *pgxpool.Pool
	redis *redis.Client
}

// Open connects as the environment says: DATABASE_URL, DATABASE_PASSWORD_FILE
// and REDIS_ADDR. Nothing is asked of either server yet.
func Open(ctx context.Context) (*Shop, error) {
	config, err := pgxpool.ParseConfig(os.Getenv("DATABASE_URL"))
	if err != nil {
		return nil, fmt.Errorf("read DATABASE_URL: %w", err)
	}
	if path := os.Getenv("DATABASE_PASSWORD_FILE"); path != "" {
		password, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read DATABASE_PASSWORD_FILE: %w", err)
		}
		config.ConnConfig.Password = strings.TrimRight(string(password), "\r\n")
	}
	config.MaxConns = 8
	db, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	return &Shop{db: db, redis: redis.NewClient(&redis.Options{Addr: os.Getenv("REDIS_ADDR")})}, nil
}

// Close ends both connections.
func (s *Shop) Close() error {
	s.db.Close()
	return s.redis.Close()
}

// Ping asks both servers.
func (s *Shop) Ping(ctx context.Context) error {
	if err := s.db.Ping(ctx); err != nil {
		return fmt.Errorf("ask PostgreSQL: %w", err)
	}
	if err := s.redis.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("ask Redis: %w", err)
	}
	return nil
}

// Migrate makes the table; it may run again.
func (s *Shop) Migrate(ctx context.Context) error {
	_, err := s.db.Exec(ctx, `CREATE TABLE IF NOT EXISTS orders (
		id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
		item text NOT NULL CHECK (item <> ''),
		quantity int NOT NULL CHECK (quantity BETWEEN 1 AND 1000),
		state text NOT NULL DEFAULT 'new',
		ordered timestamptz NOT NULL DEFAULT now())`)
	if err != nil {
		return fmt.Errorf("make the table orders: %w", err)
	}
	return nil
}

// Place stores an order and queues it.
func (s *Shop) Place(ctx context.Context, item string, quantity int) (Order, error) {
	order := Order{Item: item, Quantity: quantity, State: "new"}
	err := s.db.QueryRow(ctx, `INSERT INTO orders (item, quantity) VALUES ($1, $2) RETURNING id`, item, quantity).Scan(&order.ID)
	if err != nil {
		return Order{}, fmt.Errorf("store the order: %w", err)
	}
	if err := s.enqueue(ctx, order.ID); err != nil {
		return Order{}, err
	}
	return order, nil
}

func (s *Shop) enqueue(ctx context.Context, id int64) error {
	pipe := s.redis.TxPipeline()
	pipe.LPush(ctx, queueKey, id)
	pipe.Del(ctx, listKey)
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("queue order %d: %w", id, err)
	}
	return nil
}

// List returns the newest hundred orders; cached says whether Redis had them.
func (s *Shop) List(ctx context.Context, keep time.Duration) (list []Order, cached bool, err error) {
	if content, err := s.redis.Get(ctx, listKey).Bytes(); err == nil {
		if err := json.Unmarshal(content, &list); err == nil {
			return list, true, nil
		}
	}
	rows, err := s.db.Query(ctx, `SELECT id, item, quantity, state FROM orders ORDER BY id DESC LIMIT 100`)
	if err != nil {
		return nil, false, fmt.Errorf("list the orders: %w", err)
	}
	list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Order])
	if err != nil {
		return nil, false, fmt.Errorf("list the orders: %w", err)
	}
	content, err := json.Marshal(list)
	if err != nil {
		return nil, false, fmt.Errorf("list the orders: %w", err)
	}
	if err := s.redis.Set(ctx, listKey, content, keep).Err(); err != nil {
		return nil, false, fmt.Errorf("cache the orders: %w", err)
	}
	return list, false, nil
}

// Counts returns the number of orders by state.
func (s *Shop) Counts(ctx context.Context) (map[string]int, error) {
	counts := map[string]int{}
	rows, err := s.db.Query(ctx, `SELECT state, count(*) FROM orders GROUP BY state`)
	if err != nil {
		return nil, fmt.Errorf("count the orders: %w", err)
	}
	var state string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&state, &n}, func() error {
		counts[state] = n
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("count the orders: %w", err)
	}
	return counts, nil
}

// Ship waits up to wait for an entry of the queue and ships that order.
func (s *Shop) Ship(ctx context.Context, wait time.Duration) (int64, error) {
	entry, err := s.redis.BLMove(ctx, queueKey, workingKey, "RIGHT", "LEFT", wait).Result()
	if errors.Is(err, redis.Nil) {
		return 0, ErrEmpty
	}
	if err != nil {
		return 0, fmt.Errorf("take from the queue: %w", err)
	}
	id, err := strconv.ParseInt(entry, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("take from the queue: %q is no order: %w", entry, err)
	}
	if _, err := s.db.Exec(ctx, `UPDATE orders SET state = 'shipped' WHERE id = $1 AND state = 'new'`, id); err != nil {
		return 0, fmt.Errorf("ship order %d: %w", id, err)
	}
	pipe := s.redis.TxPipeline()
	pipe.LRem(ctx, workingKey, 1, entry)
	pipe.Del(ctx, listKey)
	if _, err := pipe.Exec(ctx); err != nil {
		return 0, fmt.Errorf("take order %d off the queue: %w", id, err)
	}
	return id, nil
}

// Requeue queues every new order that has waited longer than age: one whose
// worker died, or that was stored and never queued. Twice queued ships once.
func (s *Shop) Requeue(ctx context.Context, age time.Duration) (int, error) {
	rows, err := s.db.Query(ctx, `SELECT id FROM orders WHERE state = 'new' AND ordered < now() - $1::interval`, age)
	if err != nil {
		return 0, fmt.Errorf("look for forgotten orders: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return 0, fmt.Errorf("look for forgotten orders: %w", err)
	}
	for _, id := range ids {
		if err := s.enqueue(ctx, id); err != nil {
			return 0, err
		}
	}
	return len(ids), nil
}
