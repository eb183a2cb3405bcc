package enginetest

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/berth-dev/berth/runtime"
)

func objectCases() map[string]func(*fixture) {
	return map[string]func(*fixture){
		"NetworkEnsure":       caseNetworkEnsure,
		"NetworkInUse":        caseNetworkInUse,
		"NetworkConnect":      caseNetworkConnect,
		"NetworkMissing":      caseNetworkMissing,
		"NetworkOfAContainer": caseNetworkShared,
		"PortConflict":        casePortConflict,
		"VolumeEnsure":        caseVolumeEnsure,
		"VolumeInUse":         caseVolumeInUse,
		"VolumeKeepsContent":  caseVolumeContent,
	}
}

// owned are the case's labels with an owner.
func (x *fixture) owned(stack string) map[string]string {
	labels := x.labels()
	labels[runtime.LabelStack] = stack
	return labels
}

// network makes a network that is removed at the end of the case.
func (x *fixture) network() *runtime.NetworkSpec {
	x.Helper()
	spec := &runtime.NetworkSpec{Name: x.name(), Labels: x.owned("mine")}
	_, err := x.e.EnsureNetwork(x.Context(), spec)
	x.ok(err)
	return spec
}

func caseNetworkEnsure(x *fixture) {
	ctx := x.Context()
	spec := x.network()
	id, err := x.e.EnsureNetwork(ctx, spec)
	x.ok(err)
	again, err := x.e.EnsureNetwork(ctx, spec)
	x.ok(err)
	equal(x, "ID the second time", again, id)
	foreign := *spec
	foreign.Labels = x.owned("yours")
	_, err = x.e.EnsureNetwork(ctx, &foreign)
	x.refused(err, runtime.KindConflict)
	byName, err := x.e.Network(ctx, spec.Name)
	x.ok(err)
	byID, err := x.e.Network(ctx, id)
	x.ok(err)
	equal(x, "ID by name", byName.ID, id)
	equal(x, "name by ID", byID.Name, spec.Name)
	equal(x, "driver", byID.Driver, "bridge")
	equal(x, "label", byID.Labels[runtime.LabelStack], "mine")
	list, err := x.e.ListNetworks(ctx, x.filter())
	x.ok(err)
	equal(x, "number in the list", len(list), 1)
	equal(x, "ID in the list", list[0].ID, id)
	x.ok(x.e.RemoveNetwork(ctx, id))
	_, err = x.e.Network(ctx, id)
	x.refused(err, runtime.KindNotFound)
	x.refused(x.e.RemoveNetwork(ctx, spec.Name), runtime.KindNotFound)
}

func caseNetworkInUse(x *fixture) {
	ctx := x.Context()
	net := x.network()
	spec := x.spec("sleep")
	spec.NetworkMode, spec.Networks = "", []runtime.Attachment{{Network: net.Name, Aliases: []string{"web"}}}
	id := x.start(spec)
	n, err := x.e.Network(ctx, net.Name)
	x.ok(err)
	equalList(x, "attached", n.Containers, []string{id})
	c := x.inspect(id)
	if len(c.Networks) != 1 || c.Networks[0].Network != net.Name || c.Networks[0].IPv4 == "" || !slices.Contains(c.Networks[0].Aliases, "web") {
		x.Fatalf("endpoints %+v", c.Networks)
	}
	x.refused(x.e.RemoveNetwork(ctx, net.Name), runtime.KindConflict)
	x.ok(x.e.Stop(ctx, id, "", 10*time.Second))
	x.ok(x.e.RemoveNetwork(ctx, net.Name))
}

func caseNetworkConnect(x *fixture) {
	ctx := x.Context()
	first, second := x.network(), x.network()
	spec := x.spec("sleep")
	spec.NetworkMode, spec.Networks = "", []runtime.Attachment{{Network: first.Name}}
	id := x.start(spec)
	x.ok(x.e.Connect(ctx, second.Name, id, runtime.Attachment{Aliases: []string{"db"}}))
	c := x.inspect(id)
	if len(c.Networks) != 2 || c.Networks[0].Network != first.Name || !slices.Contains(c.Networks[1].Aliases, "db") || c.Networks[1].IPv4 == "" {
		x.Fatalf("endpoints %+v", c.Networks)
	}
	x.ok(x.e.Connect(ctx, second.Name, id, runtime.Attachment{}))
	equal(x, "number of networks", len(x.inspect(id).Networks), 2)
	x.refused(x.e.Connect(ctx, x.id+"-none", id, runtime.Attachment{}), runtime.KindNotFound)
	x.ok(x.e.Disconnect(ctx, first.Name, id, false))
	c = x.inspect(id)
	if len(c.Networks) != 1 || c.Networks[0].Network != second.Name {
		x.Fatalf("endpoints %+v", c.Networks)
	}
	x.ok(x.e.RemoveNetwork(ctx, first.Name))
}

func caseNetworkMissing(x *fixture) {
	spec := x.spec("sleep")
	spec.NetworkMode, spec.Networks = "", []runtime.Attachment{{Network: x.id + "-none"}}
	id, err := x.e.Create(x.Context(), x.name(), x.labels(), spec, nil)
	if err == nil { // an engine may look for it only when it starts the container
		err = x.e.Start(x.Context(), id)
		equal(x, "state", x.inspect(id).State, runtime.Created)
	}
	x.refused(err, runtime.KindNotFound)
}

func caseNetworkShared(x *fixture) {
	owner := x.start(x.spec("sleep"))
	spec := x.spec("sleep")
	spec.NetworkMode = "container:" + owner
	x.start(spec)
	x.ok(x.e.Stop(x.Context(), owner, "", 10*time.Second))
	late := x.create(spec)
	x.refused(x.e.Start(x.Context(), late), runtime.KindConflict)
}

func casePortConflict(x *fixture) {
	spec := x.spec("serve")
	spec.NetworkMode = "bridge"
	spec.Ports = []runtime.Port{{Target: 8080, HostIP: "127.0.0.1"}}
	first := x.start(spec)
	ports := x.inspect(first).Ports
	if len(ports) != 1 || ports[0].Target != 8080 || ports[0].Protocol != "tcp" || ports[0].HostIP != "127.0.0.1" || ports[0].HostPort == 0 {
		x.Fatalf("ports %+v", ports)
	}
	list, err := x.e.List(x.Context(), x.filter())
	x.ok(err)
	equalList(x, "ports in the list", list[0].Ports, ports)
	spec.Ports = []runtime.Port{{Target: 8080, HostIP: "127.0.0.1", Published: strconv.Itoa(int(ports[0].HostPort))}}
	second := x.create(spec)
	x.refused(x.e.Start(x.Context(), second), runtime.KindConflict)
	c := x.inspect(second)
	equal(x, "state", c.State, runtime.Created)
	if c.Error == "" {
		x.Fatal("the record does not say why it was not started")
	}
	x.ok(x.e.Stop(x.Context(), first, "", 10*time.Second))
	x.ok(x.e.Start(x.Context(), second))
	equal(x, "port", x.inspect(second).Ports[0].HostPort, ports[0].HostPort)
}

func (x *fixture) volume() *runtime.VolumeSpec {
	x.Helper()
	spec := &runtime.VolumeSpec{Name: x.name(), Labels: x.owned("mine")}
	_, err := x.e.EnsureVolume(x.Context(), spec)
	x.ok(err)
	return spec
}

func caseVolumeEnsure(x *fixture) {
	ctx := x.Context()
	spec := x.volume()
	v, err := x.e.EnsureVolume(ctx, spec)
	x.ok(err)
	equal(x, "name", v.Name, spec.Name)
	equal(x, "driver", v.Driver, "local")
	equal(x, "label", v.Labels[runtime.LabelStack], "mine")
	foreign := *spec
	foreign.Labels = x.owned("yours")
	_, err = x.e.EnsureVolume(ctx, &foreign)
	x.refused(err, runtime.KindConflict)
	list, err := x.e.ListVolumes(ctx, x.filter())
	x.ok(err)
	equal(x, "number in the list", len(list), 1)
	equal(x, "name in the list", list[0].Name, spec.Name)
	x.ok(x.e.RemoveVolume(ctx, spec.Name))
	_, err = x.e.Volume(ctx, spec.Name)
	x.refused(err, runtime.KindNotFound)
	x.refused(x.e.RemoveVolume(ctx, spec.Name), runtime.KindNotFound)
}

func (x *fixture) withVolume(v *runtime.VolumeSpec, args ...string) *runtime.Spec {
	spec := x.spec(args...)
	spec.Mounts = []runtime.Mount{{Type: runtime.MountVolume, Source: v.Name, Target: "/data"}}
	return spec
}

func caseVolumeInUse(x *fixture) {
	v := x.volume()
	id := x.create(x.withVolume(v, "sleep"))
	x.refused(x.e.RemoveVolume(x.Context(), v.Name), runtime.KindConflict)
	x.ok(x.e.Remove(x.Context(), id, true, false))
	x.ok(x.e.RemoveVolume(x.Context(), v.Name))
}

func caseVolumeContent(x *fixture) {
	v := x.volume()
	id := x.runToEnd(x.withVolume(v, "writefile", "/data/kept", "for ever"))
	x.ok(x.e.Remove(x.Context(), id, true, false))
	id = x.runToEnd(x.withVolume(v, "readfile", "/data/kept"))
	out, _ := x.output(id)
	equal(x, "content", out, "for ever")
	spec := x.spec("ls", "/etc")
	spec.Mounts = []runtime.Mount{{Type: runtime.MountVolume, Target: "/etc"}}
	out, _ = x.output(x.runToEnd(spec))
	if !strings.Contains(out, "passwd\n") {
		x.Fatalf("a new volume does not hold what the image has in its place: %q", out)
	}
	spec = x.withVolume(v, "writefile", "/data/kept", "changed")
	spec.Mounts[0].ReadOnly = true
	if code := x.wait(x.start(spec)).Code; code == 0 {
		x.Fatal("a read-only volume was written to")
	}
	ctx, cancel := context.WithCancel(x.Context())
	cancel()
	x.refused(x.e.RemoveVolume(ctx, v.Name), runtime.KindUnavailable)
}
