package docker

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/registry"

	"github.com/berth-dev/berth/runtime"
)

// Credentials come from the configuration and its helpers, and go to the
// engine of the registry that is asked for only.
func TestCredentials(t *testing.T) {
	bin, conf := t.TempDir(), t.TempDir()
	helper := "#!/bin/sh\nread -r host\n[ \"$1\" = get ] && [ \"$host\" = helped.example ] || { echo 'credentials not found in native keychain'; exit 1; }\n" +
		`echo '{"ServerURL":"helped.example","Username":"hugo","Secret":"from-helper"}'` + "\n"
	if err := os.WriteFile(filepath.Join(bin, "docker-credential-berthtest"), []byte(helper), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	basic := base64.StdEncoding.EncodeToString([]byte("anna:from-file"))
	write(t, filepath.Join(conf, "config.json"),
		`{"auths":{"plain.example":{"auth":"`+basic+`"},"https://index.docker.io/v1/":{"auth":"`+basic+`"}},"credHelpers":{"helped.example":"berthtest"}}`)
	var sent string
	s := serve(t, "1.41", map[string]http.HandlerFunc{"POST /images/create": func(_ http.ResponseWriter, r *http.Request) {
		sent = r.Header.Get(registry.AuthHeader)
	}})
	e, err := Open(t.Context(), Options{Host: "tcp://" + s.Listener.Addr().String(), Environ: func(k string) string {
		return map[string]string{"DOCKER_CONFIG": conf}[k]
	}})
	if err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[string]string{
		"plain.example/a:1":  "anna:from-file",
		"helped.example/a:1": "hugo:from-helper",
		"busybox":            "anna:from-file",
		"other.example/a:1":  "",
	} {
		if err := e.Pull(t.Context(), ref, runtime.PullOptions{}); err != nil {
			t.Fatal(err)
		}
		got := ""
		if sent != "" {
			b, err := base64.URLEncoding.DecodeString(sent)
			if err != nil {
				t.Fatal(err)
			}
			var auth registry.AuthConfig
			if err := json.Unmarshal(b, &auth); err != nil {
				t.Fatal(err)
			}
			got = auth.Username + ":" + auth.Password
		}
		if got != want {
			t.Errorf("%s: sent %q, want %q", ref, got, want)
		}
	}
	wantKind(t, e.Pull(t.Context(), "Not A Name", runtime.PullOptions{}), runtime.KindInvalid, "Not A Name")
	write(t, filepath.Join(conf, "config.json"), `{"auths":{"plain.example":{"auth":"!!"}}}`)
	err = e.Pull(t.Context(), "plain.example/a:1", runtime.PullOptions{})
	wantKind(t, err, runtime.KindInvalid, "credentials for plain.example")
	if strings.Contains(err.Error(), "from-file") {
		t.Errorf("%v holds a secret", err)
	}
}
