package main

import (
	"cmp"
	"context"
	"html/template"
	"log"
	"net/http"
	"os"
	"strings"
	"time"
)

// page is the one page of the example.
type page struct {
	greeting string
	counter  string // URL; empty: no counter is shown
	host     string
}

var pageTemplate = template.Must(template.New("page").Parse(`<!doctype html>
<title>{{.Greeting}}</title>
<h1>{{.Greeting}}</h1>
<p>Served by container {{.Host}}.</p>
{{if .Visits}}<p>Visits so far: {{.Visits}}</p>{{end}}
`))

func newPage(greeting, counter string) *page {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return &page{greeting: cmp.Or(greeting, "Hello from Berth"), counter: strings.TrimSuffix(counter, "/"), host: host}
}

func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/" {
		http.NotFound(w, r)
		return
	}
	data := struct{ Greeting, Host, Visits string }{p.greeting, p.host, ""}
	if p.counter != "" {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		visits, err := get(ctx, http.MethodPost, p.counter+"/visits")
		if err != nil {
			// The page is worth showing without its number.
			log.Printf("count the visit: %v", err)
			visits = "unknown, the counter does not answer"
		}
		data.Visits = strings.TrimSpace(visits)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if err := pageTemplate.Execute(w, data); err != nil {
		log.Printf("send the page: %v", err)
	}
}
