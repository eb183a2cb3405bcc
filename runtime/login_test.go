package runtime

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestLoginHidesItsSecrets(t *testing.T) {
	l := Login{User: "anna", Password: "secret-1", IdentityToken: "secret-2", RegistryToken: "secret-3"}
	encoded, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		fmt.Sprint(l), fmt.Sprintf("%v %+v %#v %s %q %x", l, l, l, l, l, l), fmt.Sprintf("%+v", &l),
		fmt.Sprintf("%+v", struct{ L Login }{l}), string(encoded),
	} {
		if strings.Contains(text, "secret") || !strings.Contains(text, "anna") {
			t.Errorf("printed: %s", text)
		}
	}
}
