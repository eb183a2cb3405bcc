package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPageCountsVisitsAcrossRestarts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "visits")
	for _, want := range []string{"Visits so far: 1", "Visits so far: 2"} {
		c, err := openCounter(file) // as after a restart
		if err != nil {
			t.Fatal(err)
		}
		counter := httptest.NewServer(c)
		rec := httptest.NewRecorder()
		newPage("Good day", counter.URL).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/", nil))
		counter.Close()
		if body := rec.Body.String(); !strings.Contains(body, want) || !strings.Contains(body, "<h1>Good day</h1>") {
			t.Errorf("the page has not %q:\n%s", want, body)
		}
	}
}

func TestPageWithoutItsCounter(t *testing.T) {
	rec := httptest.NewRecorder()
	newPage("", "http://127.0.0.1:1").ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/", nil))
	if rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), "does not answer") {
		t.Errorf("got %d:\n%s", rec.Code, rec.Body)
	}
}

func TestCheck(t *testing.T) {
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	defer server.Close()
	if err := check(t.Context(), server.URL); err != nil {
		t.Errorf("a page that answers 200: %v", err)
	}
	status = http.StatusServiceUnavailable
	if err := check(t.Context(), server.URL); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("a page that answers 503 passed: %v", err)
	}
}

func TestCounterRefusesAFileItDidNotWrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "visits")
	if err := os.WriteFile(file, []byte("not a number"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openCounter(file); err == nil {
		t.Error("a file without a number was taken")
	}
}
