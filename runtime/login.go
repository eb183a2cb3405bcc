package runtime

import (
	"fmt"
	"io"
)

// Login is what proves to a registry who asks. Printed or encoded it shows the
// name only.
type Login struct {
	User          string `json:"user,omitempty"`
	Password      string `json:"-"`
	IdentityToken string `json:"-"` // exchanged for access to one repository; then User and Password are not used
	RegistryToken string `json:"-"` // handed to the registry as it is
}

// Format prints the login without its secrets, whatever the verb.
func (l Login) Format(s fmt.State, _ rune) {
	_, _ = io.WriteString(s, "login of "+fmt.Sprintf("%q", l.User)) // as fmt does
}
