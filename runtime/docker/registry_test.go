package docker

import (
	"encoding/base64"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/registry"

	"github.com/berth-dev/berth/runtime"
)

func TestLogin(t *testing.T) {
	conf := t.TempDir()
	basic := base64.StdEncoding.EncodeToString([]byte("anna:from-file"))
	write(t, filepath.Join(conf, "config.json"), `{"auths":{
		"plain.example":{"auth":"`+basic+`"}, "broken.example":{"auth":"!!from-file"}}}`)
	s := serve(t, "1.41", nil)
	e, err := Open(t.Context(), Options{Host: "tcp://" + s.Listener.Addr().String(), Environ: func(k string) string {
		return map[string]string{"DOCKER_CONFIG": conf}[k]
	}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = e.Login(t.Context(), "plain.example")
	wantKind(t, err, runtime.KindInvalid, "log in to plain.example")
	if strings.Contains(err.Error(), "from-file") {
		t.Errorf("%v holds a secret", err)
	}
	write(t, filepath.Join(conf, "config.json"), `{"auths":{
		"plain.example":{"auth":"`+basic+`"}, "https://index.docker.io/v1/":{"auth":"`+basic+`"},
		"token.example":{"auth":"`+base64.StdEncoding.EncodeToString([]byte("anna:"))+`","identitytoken":"from-login"}}}`)
	for host, want := range map[string]runtime.Login{
		"plain.example": {User: "anna", Password: "from-file"},
		"docker.io":     {User: "anna", Password: "from-file"},
		"token.example": {User: "anna", IdentityToken: "from-login"},
		"other.example": {},
	} {
		if got, err := e.Login(t.Context(), host); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", host, got, err, want)
		}
	}
}

func TestInsecureRegistry(t *testing.T) {
	info := map[string]any{"NCPU": 2, "RegistryConfig": map[string]any{
		"InsecureRegistryCIDRs": []string{"127.0.0.0/8", "10.1.0.0/16"},
		"IndexConfigs": map[string]any{
			"docker.io": map[string]any{"Name": "docker.io", "Secure": true}, "reg.example:5000": map[string]any{"Name": "reg.example:5000", "Secure": false},
		},
	}}
	s := serve(t, "1.41", map[string]http.HandlerFunc{"GET /info": func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, info) }})
	e, err := Open(t.Context(), Options{Host: "tcp://" + s.Listener.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{
		"docker.io": false, "reg.example:5000": true, "127.0.0.1:5000": true, "127.0.0.1": true, "10.1.2.3:5000": true, "10.2.2.3:5000": false,
	} {
		if got, err := e.InsecureRegistry(t.Context(), host); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", host, got, err, want)
		}
	}
	conf := &registry.ServiceConfig{}
	if insecure(conf, "a.example", []netip.Addr{netip.MustParseAddr("127.0.0.1")}) {
		t.Error("insecure although nothing says so")
	}
	delete(info, "RegistryConfig")
	if got, err := e.InsecureRegistry(t.Context(), "127.0.0.1"); got || err != nil {
		t.Errorf("without a configuration: %v, %v", got, err)
	}
}
