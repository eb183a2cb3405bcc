package main

import (
	"context"
	"encoding/json"
	"fmt"
	"html/template"
	"log"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/berth-dev/berth/compose-examples/shop/orders"
)

// settings is the application's configuration file.
type settings struct {
	Title        string `json:"title"`
	CacheSeconds int    `json:"cacheSeconds"`
}

func readSettings(path string) (settings, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return settings{}, fmt.Errorf("read the settings: %w", err)
	}
	var s settings
	if err := json.Unmarshal(content, &s); err != nil {
		return settings{}, fmt.Errorf("read the settings in %s: %w", path, err)
	}
	return s, nil
}

// store is what the pages need of the shop.
type store interface {
	Ping(ctx context.Context) error
	Place(ctx context.Context, item string, quantity int) (orders.Order, error)
	List(ctx context.Context, keep time.Duration) ([]orders.Order, bool, error)
}

type web struct {
	store    store
	settings settings
	verbose  bool
}

func newWeb(s store, settings settings) http.Handler {
	w := &web{store: s, settings: settings, verbose: os.Getenv("SHOP_VERBOSE") != ""}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", w.page)
	mux.HandleFunc("GET /healthz", w.health)
	mux.HandleFunc("GET /orders", w.list)
	mux.HandleFunc("POST /orders", w.place)
	return mux
}

var pageTemplate = template.Must(template.New("page").Parse(`<!doctype html>
<title>{{.Title}}</title>
<h1>{{.Title}}</h1>
<form method="post" action="/orders">
<input name="item" placeholder="item" required> <input name="quantity" type="number" value="1" min="1" max="1000">
<button>Order</button>
</form>
<table>{{range .Orders}}<tr><td>{{.ID}}<td>{{.Item}}<td>{{.Quantity}}<td>{{.State}}</tr>{{end}}</table>
`))

func (s *web) page(w http.ResponseWriter, r *http.Request) {
	list, _, err := s.store.List(r.Context(), s.keep())
	if err != nil {
		s.fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	data := struct {
		Title  string
		Orders []orders.Order
	}{s.settings.Title, list}
	if err := pageTemplate.Execute(w, data); err != nil {
		log.Printf("send the page: %v", err)
	}
}

func (s *web) keep() time.Duration { return time.Duration(s.settings.CacheSeconds) * time.Second }

func (s *web) health(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	if err := s.store.Ping(ctx); err != nil {
		log.Printf("not well: %v", err)
		http.Error(w, "a server does not answer", http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}

func (s *web) list(w http.ResponseWriter, r *http.Request) {
	list, cached, err := s.store.List(r.Context(), s.keep())
	if err != nil {
		s.fail(w, err)
		return
	}
	w.Header().Set("X-Cache", map[bool]string{true: "hit", false: "miss"}[cached])
	s.answer(w, http.StatusOK, list)
}

func (s *web) place(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	item := r.FormValue("item")
	quantity, err := strconv.Atoi(r.FormValue("quantity"))
	if err != nil || quantity < 1 || quantity > 1000 || item == "" || len(item) > 200 {
		http.Error(w, "give an item and a quantity from 1 to 1000", http.StatusBadRequest)
		return
	}
	order, err := s.store.Place(r.Context(), item, quantity)
	if err != nil {
		s.fail(w, err)
		return
	}
	if s.verbose {
		log.Printf("order %d placed: %d × %q", order.ID, order.Quantity, order.Item)
	}
	s.answer(w, http.StatusCreated, order)
}

func (s *web) answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(value); err != nil {
		log.Printf("send the answer: %v", err)
	}
}

func (s *web) fail(w http.ResponseWriter, err error) {
	log.Print(err)
	http.Error(w, "the shop has a problem, its log says which", http.StatusInternalServerError)
}
