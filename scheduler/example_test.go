package scheduler_test

import (
	"fmt"

	"github.com/berth-dev/berth/scheduler"
)

func Example() {
	c, err := scheduler.New(scheduler.Policy{Strategy: scheduler.StrategySpread})
	if err != nil {
		panic(err)
	}
	size := scheduler.Resources{CPU: 500, Memory: 256 << 20}
	for _, n := range []scheduler.Node{
		{Name: "edge-1", Capacity: size, Labels: map[string]string{"zone": "a"}},
		{Name: "edge-2", Capacity: size, Labels: map[string]string{"zone": "b"}},
		{Name: "edge-3", Capacity: size, Taints: []scheduler.Taint{{Key: "dedicated", Value: "db", Effect: scheduler.NoSchedule}}},
	} {
		if err := c.AddNode(n); err != nil {
			panic(err)
		}
	}
	web, err := c.Register(scheduler.Template{
		Stack: "shop", Service: "web",
		Reservation: scheduler.Resources{CPU: 100, Memory: 128 << 20},
		Spread:      []scheduler.SpreadRule{{TopologyKey: "zone", MaxSkew: 1}},
	})
	if err != nil {
		panic(err)
	}
	for slot := 1; ; slot++ {
		placed, ok := c.Schedule(web, fmt.Sprintf("web/%d", slot))
		if !ok {
			why := c.Why(web)
			fmt.Printf("web/%d: %s\n", slot, why.Reason)
			fmt.Println("hint:", why.Hint)
			return
		}
		replica, _ := c.Replica(placed)
		fmt.Println(replica.ID, "on", replica.Node)
	}

	// Output:
	// web/1 on edge-1
	// web/2 on edge-2
	// web/3 on edge-1
	// web/4 on edge-2
	// web/5: 0/3 nodes: 2 insufficient memory (needs 128M, 0 free on edge-1), 1 taint dedicated=db
	// hint: raise memory of edge-1 by 128M
}
