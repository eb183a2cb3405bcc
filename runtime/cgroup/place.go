package cgroup

import (
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/berth-dev/berth/runtime"
)

// The engine's cgroup drivers.
const (
	DriverCgroupfs = "cgroupfs"
	DriverSystemd  = "systemd"
)

const (
	top        = "berth"
	nodeSuffix = ".node" // keeps a node called "tasks" from meeting the file of that name
	sliceEnd   = ".slice"
	maxUnit    = 255 // bytes in the name of a systemd unit
	ownerBytes = 8   // of the owner's id: enough to tell installations on one machine apart
)

var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)

// place is where a node's cgroup is.
type place struct {
	parent string // as a container names it
	rel    string // below a hierarchy's mount point, without a leading slash
}

// placeOf returns a node's place: /berth/<owner>/<node>.node for the cgroupfs
// driver, the slice berth-<owner>-<node>.slice for the systemd driver. A dash
// nests slices, so those of the names are escaped. The kind of its error is
// Invalid.
func placeOf(driver, owner, node string) (place, error) {
	above, err := placeOfOwner(driver, owner)
	if err != nil {
		return place{}, err
	}
	if !validName.MatchString(node) {
		return place{}, invalid("name the cgroup of node", node, "the name must be of at most 63 letters, digits, '_', '.' and '-' and begin with a letter or digit")
	}
	if driver == DriverCgroupfs {
		rel := path.Join(above.rel, node+nodeSuffix)
		return place{parent: "/" + rel, rel: rel}, nil
	}
	slice := strings.TrimSuffix(above.parent, sliceEnd) + "-" + escape(node) + sliceEnd
	if len(slice) > maxUnit {
		return place{}, invalid("name the cgroup of node", node, fmt.Sprintf("the slice's name would have %d bytes, and systemd allows %d; give the node a shorter name", len(slice), maxUnit))
	}
	return place{parent: slice, rel: path.Join(above.rel, slice)}, nil
}

// placeOfOwner returns the place below which all nodes of an installation are.
func placeOfOwner(driver, owner string) (place, error) {
	if !validName.MatchString(owner) {
		return place{}, invalid("name the cgroups of owner", owner, "the id must be of letters and digits")
	}
	owner = owner[:min(len(owner), ownerBytes)]
	switch driver {
	case DriverCgroupfs:
		rel := path.Join(top, owner)
		return place{parent: "/" + rel, rel: rel}, nil
	case DriverSystemd:
		slice := top + "-" + escape(owner) + sliceEnd
		return place{parent: slice, rel: path.Join(top+sliceEnd, slice)}, nil
	}
	return place{}, invalid("name the cgroups of owner", owner, fmt.Sprintf("the engine's cgroup driver %q gives containers no cgroup parent; use cgroupfs or systemd", driver))
}

// nodeOf returns the node whose cgroup has the name base, as placeOf gives it.
func nodeOf(driver, owner, base string) (string, bool) {
	if driver == DriverCgroupfs {
		node, ok := strings.CutSuffix(base, nodeSuffix)
		return node, ok && validName.MatchString(node)
	}
	above, err := placeOfOwner(driver, owner)
	if err != nil {
		return "", false
	}
	name, ok := strings.CutPrefix(base, strings.TrimSuffix(above.parent, sliceEnd)+"-")
	if !ok || !strings.HasSuffix(name, sliceEnd) {
		return "", false
	}
	node := unescape(strings.TrimSuffix(name, sliceEnd))
	return node, validName.MatchString(node)
}

// escape writes a name so that it is one part of a unit's name: everything but
// letters, digits, '_' and '.' inside becomes \xNN, as systemd-escape does it.
func escape(name string) string {
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '.' && i > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}

var escaped = regexp.MustCompile(`\\x[0-9a-f]{2}`)

func unescape(name string) string {
	return escaped.ReplaceAllStringFunc(name, func(s string) string {
		var c byte
		if _, err := fmt.Sscanf(s, `\x%02x`, &c); err != nil {
			return s
		}
		return string(rune(c))
	})
}

// containerOf returns the ID of the container whose cgroup has the name base:
// the ID itself, or <engine>-<id>.scope with the systemd driver.
func containerOf(base string) string {
	if name, ok := strings.CutSuffix(base, ".scope"); ok {
		return name[strings.LastIndexByte(name, '-')+1:]
	}
	return base
}

func invalid(op, object, why string) error {
	return &runtime.Error{Kind: runtime.KindInvalid, Op: op, Object: object, Err: fmt.Errorf("%s", why)}
}
