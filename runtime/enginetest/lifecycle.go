package enginetest

import (
	"strings"
	"time"

	"github.com/berth-dev/berth/runtime"
)

const mib = 1 << 20

func lifecycleCases() map[string]func(*fixture) {
	return map[string]func(*fixture){
		"CreateKeepsSpec":            caseCreateKeepsSpec,
		"CreateRefusals":             caseCreateRefusals,
		"CreateWritesFiles":          caseCreateWritesFiles,
		"StartBadCommand":            caseStartBadCommand,
		"StopGrace":                  caseStopGrace,
		"StopSignal":                 caseStopSignal,
		"KillSignals":                caseKillSignals,
		"RestartKeepsContainer":      caseRestartKeepsContainer,
		"Rename":                     caseRename,
		"UpdateInPlace":              caseUpdateInPlace,
		"RemoveForce":                caseRemoveForce,
		"RemoveVolumes":              caseRemoveVolumes,
		"RestartPolicyCountsRetries": caseRestartPolicy,
		"RestartPolicyBlockedByStop": caseRestartPolicyBlocked,
		"PruneOnlyWhatMatches":       casePrune,
		"Health":                     caseHealth,
		"HealthDisabled":             caseHealthDisabled,
		"IdentityRoundTrip":          caseIdentity,
	}
}

func caseCreateKeepsSpec(x *fixture) {
	spec := x.spec("serve", "9000")
	spec.Labels = map[string]string{"text": "a=b, \"q\" ü\n\\ {{.}}", "empty": ""}
	spec.Limits = runtime.Limits{Memory: 64 * mib, NanoCPUs: 5e8, CPUShares: 512, Pids: 100, MemoryReservation: 32 * mib}
	spec.Restart = runtime.RestartPolicy{Name: "on-failure", MaxRetries: 4}
	spec.StopSignal, spec.TTY = "SIGINT", true
	before := time.Now().Add(-time.Second)
	c := x.inspect(x.create(spec))
	equal(x, "state", c.State, runtime.Created)
	equal(x, "name", c.Name, x.id+"-a")
	equal(x, "length of the ID", len(c.ID), 64)
	equal(x, "label", c.Labels["text"], spec.Labels["text"])
	if v, ok := c.Labels["empty"]; !ok || v != "" || c.Labels[Label] != x.id {
		x.Fatalf("labels %v", c.Labels)
	}
	img, err := x.e.Image(x.Context(), x.h.Image)
	x.ok(err)
	equal(x, "image", c.Image, x.h.Image)
	equal(x, "image ID", c.ImageID, img.ID)
	equalList(x, "command", c.Command, []string{"/workload", "serve", "9000"})
	equal(x, "memory", c.Limits.Memory, spec.Limits.Memory)
	equal(x, "reservation", c.Limits.MemoryReservation, spec.Limits.MemoryReservation)
	equal(x, "cpus", c.Limits.NanoCPUs, spec.Limits.NanoCPUs)
	equal(x, "cpu shares", c.Limits.CPUShares, spec.Limits.CPUShares)
	equal(x, "pids", c.Limits.Pids, spec.Limits.Pids)
	equal(x, "restart policy", c.Restart, spec.Restart)
	equal(x, "stop signal", c.StopSignal, "SIGINT")
	equal(x, "TTY", c.TTY, true)
	if c.Created.Before(before) || !c.Started.IsZero() || !c.Finished.IsZero() || c.PID != 0 {
		x.Fatalf("created %s, started %s, finished %s, PID %d", c.Created, c.Started, c.Finished, c.PID)
	}
}

func caseCreateRefusals(x *fixture) {
	ctx := x.Context()
	try := func(name string, change func(*runtime.Spec), kind runtime.Kind) {
		x.Helper()
		spec := x.spec("sleep")
		change(spec)
		id, err := x.e.Create(ctx, name, x.labels(), spec, nil)
		x.refused(err, kind)
		equal(x, "ID", id, "")
	}
	none := func(*runtime.Spec) {}
	taken := x.inspect(x.create(x.spec("sleep"))).Name
	try(taken, none, runtime.KindConflict)
	try("-bad name", none, runtime.KindInvalid)
	name := x.name()
	try(name, func(s *runtime.Spec) { s.Image = "berth-no-such-image:none" }, runtime.KindNotFound)
	try(name, func(s *runtime.Spec) { s.Limits.NanoCPUs = 4096e9 }, runtime.KindInvalid)
	try(name, func(s *runtime.Spec) { s.Limits.Memory = 1024 }, runtime.KindInvalid)
	try(name, func(s *runtime.Spec) { s.Limits.Memory, s.Limits.MemorySwap = 64*mib, 32*mib }, runtime.KindInvalid)
	try(name, func(s *runtime.Spec) { s.Restart.Name = "sometimes" }, runtime.KindInvalid)
	try(name, func(s *runtime.Spec) { s.Files = []runtime.File{{Name: "key", Target: "/run/key"}} }, runtime.KindInvalid)
	_, err := x.e.Inspect(ctx, name)
	x.refused(err, runtime.KindNotFound)
}

func caseCreateWritesFiles(x *fixture) {
	spec := x.spec("readfile", "/run/secrets/key", "/etc/app/deep/conf")
	spec.Files = []runtime.File{
		{Name: "key", Target: "/run/secrets/key", Mode: 0o400, UID: 1000, GID: 1000},
		{Name: "conf", Target: "/etc/app/deep/conf"},
	}
	contents := map[string][]byte{"key": []byte("s3cret\n"), "conf": []byte("a: 1\n")}
	id, err := x.e.Create(x.Context(), x.name(), x.labels(), spec, contents)
	x.ok(err)
	stat, err := x.e.StatPath(x.Context(), id, "/run/secrets/key")
	x.ok(err)
	equal(x, "size", stat.Size, 7)
	equal(x, "mode", stat.Mode&0o777, 0o400)
	x.ok(x.e.Start(x.Context(), id))
	x.wait(id)
	out, _ := x.output(id)
	equal(x, "output", out, "s3cret\na: 1\n")

	spec.Command = []string{"stat", "/run/secrets/key", "/etc/app/deep/conf"}
	id, err = x.e.Create(x.Context(), x.name(), x.labels(), spec, contents)
	x.ok(err)
	x.ok(x.e.Start(x.Context(), id))
	x.wait(id)
	out, _ = x.output(id)
	equal(x, "owners", out, "/run/secrets/key 0400 1000:1000 7\n/etc/app/deep/conf 0444 0:0 5\n")
}

func caseStartBadCommand(x *fixture) {
	spec := x.spec()
	spec.Entrypoint = []string{"/no/such/program"}
	id := x.create(spec)
	x.refused(x.e.Start(x.Context(), id), runtime.KindInvalid)
	c := x.inspect(id)
	equal(x, "state", c.State, runtime.Created)
	equal(x, "exit code", c.ExitCode, 127)
	if !strings.Contains(c.Error, "/no/such/program") {
		x.Fatalf("the record does not say why: %q", c.Error)
	}
}

func caseStopGrace(x *fixture) {
	stubborn, polite := x.start(x.spec("ignoreterm")), x.start(x.spec("sleep"))
	x.awaitOutput(stubborn, "ignoring signals")
	x.awaitOutput(polite, "sleeping")
	begin := time.Now()
	x.ok(x.e.Stop(x.Context(), polite, "", 20*time.Second))
	if d := time.Since(begin); d > 15*time.Second {
		x.Fatalf("a process that ends when asked took %s to stop", d)
	}
	equal(x, "exit code of the polite one", x.inspect(polite).ExitCode, 0)
	begin = time.Now()
	x.ok(x.e.Stop(x.Context(), stubborn, "", time.Second))
	if d := time.Since(begin); d < time.Second {
		x.Fatalf("killed after %s, before the grace of 1s was over", d)
	}
	c := x.inspect(stubborn)
	equal(x, "state", c.State, runtime.Exited)
	equal(x, "exit code of the stubborn one", c.ExitCode, 137)
	if c.PID != 0 || c.Finished.Before(c.Started) || c.Ran() <= 0 {
		x.Fatalf("PID %d, started %s, finished %s", c.PID, c.Started, c.Finished)
	}
}

func caseStopSignal(x *fixture) {
	spec := x.spec("sleep")
	spec.StopSignal = "SIGINT"
	id := x.start(spec)
	x.awaitOutput(id, "sleeping")
	x.ok(x.e.Stop(x.Context(), id, "", 20*time.Second))
	equal(x, "exit code by the container's own signal", x.inspect(id).ExitCode, 0)
	id = x.start(x.spec("sleep"))
	x.awaitOutput(id, "sleeping")
	x.ok(x.e.Stop(x.Context(), id, "SIGKILL", 20*time.Second))
	equal(x, "exit code by the caller's signal", x.inspect(id).ExitCode, 137)
}

func caseKillSignals(x *fixture) {
	id := x.start(x.spec("sleep"))
	x.awaitOutput(id, "sleeping")
	x.ok(x.e.Kill(x.Context(), id, "SIGUSR1"))
	equal(x, "state after a signal that is ignored", x.inspect(id).State, runtime.Running)
	x.refused(x.e.Kill(x.Context(), id, "SIGNONSENSE"), runtime.KindInvalid)
	x.ok(x.e.Kill(x.Context(), id, "TERM"))
	equal(x, "exit code", x.becomes(id, runtime.Exited).ExitCode, 0)
}

func caseRestartKeepsContainer(x *fixture) {
	id := x.start(x.spec("sleep"))
	x.awaitOutput(id, "sleeping")
	before := x.inspect(id)
	if code, _, errOut := x.exec(id, "writefile", "/tmp/kept", "yes"); code != 0 {
		x.Fatal(errOut)
	}
	x.ok(x.e.Restart(x.Context(), id, "", 10*time.Second))
	c := x.becomes(id, runtime.Running)
	_, out, _ := x.exec(id, "readfile", "/tmp/kept")
	equal(x, "file written before", out, "yes")
	equal(x, "restarts by the policy", c.RestartCount, 0)
	if !c.Started.After(before.Started) || c.PID == before.PID {
		x.Fatalf("started %s and PID %d, before %s and %d", c.Started, c.PID, before.Started, before.PID)
	}
}

func caseRename(x *fixture) {
	id, other := x.create(x.spec("sleep")), x.create(x.spec("sleep"))
	old, taken, fresh := x.inspect(id).Name, x.inspect(other).Name, x.name()
	x.refused(x.e.Rename(x.Context(), id, taken), runtime.KindConflict)
	x.refused(x.e.Rename(x.Context(), x.name(), fresh), runtime.KindNotFound)
	x.ok(x.e.Rename(x.Context(), id, old))
	x.ok(x.e.Rename(x.Context(), old, fresh))
	equal(x, "ID by the new name", x.inspect(fresh).ID, id)
	_, err := x.e.Inspect(x.Context(), old)
	x.refused(err, runtime.KindNotFound)
	x.ok(x.e.Rename(x.Context(), other, old))
}

func caseUpdateInPlace(x *fixture) {
	spec := x.spec("sleep")
	spec.Limits = runtime.Limits{Memory: 64 * mib, NanoCPUs: 5e8}
	id := x.start(spec)
	pid := x.inspect(id).PID
	want := runtime.Limits{Memory: 256 * mib, NanoCPUs: 1e9, CPUShares: 256, Pids: 50, MemoryReservation: 32 * mib}
	x.ok(x.e.Update(x.Context(), id, want, runtime.RestartPolicy{Name: "unless-stopped"}))
	c := x.inspect(id)
	have := c.Limits
	have.MemorySwap = 0 // left open, the engine chooses
	equal(x, "limits", have, want)
	equal(x, "restart policy", c.Restart.Name, "unless-stopped")
	x.refused(x.e.Update(x.Context(), id, runtime.Limits{NanoCPUs: 4096e9}, runtime.RestartPolicy{}), runtime.KindInvalid)
	equal(x, "limits after a refusal", x.inspect(id).Limits.NanoCPUs, want.NanoCPUs)

	x.ok(x.e.Update(x.Context(), id, runtime.Limits{}, runtime.RestartPolicy{Name: "no"}))
	c = x.inspect(id)
	equal(x, "lifted memory", c.Limits.Memory, 0)
	equal(x, "lifted cpus", c.Limits.NanoCPUs, 0)
	equal(x, "lifted cpu shares", c.Limits.CPUShares, 0)
	equal(x, "lifted pids", max(c.Limits.Pids, 0), 0)
	equal(x, "restart policy", c.Restart.Active(), false)
	equal(x, "process", c.PID, pid)
}

func caseRemoveForce(x *fixture) {
	id := x.start(x.spec("ignoreterm"))
	x.ok(x.e.Remove(x.Context(), id, true, true))
	_, err := x.e.Inspect(x.Context(), id)
	x.refused(err, runtime.KindNotFound)
	x.refused(x.e.Remove(x.Context(), id, true, true), runtime.KindNotFound)
}

func caseRemoveVolumes(x *fixture) {
	_, err := x.e.EnsureVolume(x.Context(), &runtime.VolumeSpec{Name: x.id + "-named", Labels: x.labels()})
	x.ok(err)
	spec := x.spec("sleep")
	spec.Mounts = []runtime.Mount{
		{Type: runtime.MountVolume, Target: "/anonymous"},
		{Type: runtime.MountVolume, Source: x.id + "-named", Target: "/named"},
	}
	kept, gone := x.create(spec), x.create(spec)
	mounts := x.inspect(kept).Mounts
	if len(mounts) != 2 || mounts[0].Target != "/anonymous" || mounts[0].Name == "" || mounts[1].Name != x.id+"-named" {
		x.Fatalf("mounts %+v", mounts)
	}
	lost := x.inspect(gone).Mounts[0].Name
	x.ok(x.e.Remove(x.Context(), kept, false, false))
	x.ok(x.e.Remove(x.Context(), gone, true, false))
	_, err = x.e.Volume(x.Context(), mounts[0].Name)
	x.ok(err)
	// A successor that has taken the anonymous volume over takes it along.
	spec.Mounts[0].Source = mounts[0].Name
	x.ok(x.e.Remove(x.Context(), x.create(spec), true, false))
	_, err = x.e.Volume(x.Context(), mounts[0].Name)
	x.refused(err, runtime.KindNotFound)
	_, err = x.e.Volume(x.Context(), lost)
	x.refused(err, runtime.KindNotFound)
	_, err = x.e.Volume(x.Context(), x.id+"-named")
	x.ok(err)
}

func caseRestartPolicy(x *fixture) {
	spec := x.spec("exit", "7")
	spec.Restart = runtime.RestartPolicy{Name: "on-failure", MaxRetries: 2}
	id := x.start(spec)
	c := x.becomes(id, runtime.Exited)
	equal(x, "restarts", c.RestartCount, 2)
	equal(x, "exit code", c.ExitCode, 7)
}

func caseRestartPolicyBlocked(x *fixture) {
	spec := x.spec("sleep")
	spec.Restart.Name = "always"
	id := x.start(spec)
	x.ok(x.e.Stop(x.Context(), id, "", 10*time.Second))
	c := x.inspect(id)
	equal(x, "state", c.State, runtime.Exited)
	x.ok(x.e.Start(x.Context(), id))
	x.ok(x.e.Kill(x.Context(), id, ""))
	x.becomes(id, runtime.Exited)
	equal(x, "restarts", x.inspect(id).RestartCount, 0)
}

func casePrune(x *fixture) {
	_, err := x.e.Prune(x.Context(), runtime.Filter{})
	x.refused(err, runtime.KindInvalid)
	created, exited, running := x.create(x.spec("sleep")), x.runToEnd(x.spec("exit", "1")), x.start(x.spec("sleep"))
	labels := x.labels()
	labels["other"] = "yes"
	ids, err := x.e.Prune(x.Context(), runtime.Filter{Labels: labels})
	x.ok(err)
	equal(x, "number removed by a filter that matches none", len(ids), 0)
	ids, err = x.e.Prune(x.Context(), x.filter())
	x.ok(err)
	want := []string{created, exited}
	if !sameSet(ids, want) {
		x.Fatalf("removed %v, want %v", ids, want)
	}
	equal(x, "state of the one that runs", x.inspect(running).State, runtime.Running)
}

func caseHealth(x *fixture) {
	spec := x.spec("sleep")
	spec.Healthcheck = &runtime.Healthcheck{Test: []string{"CMD", "/workload", "healthcheck", "/tmp/sick"}, Interval: time.Second, Retries: 1}
	id := x.start(spec)
	equal(x, "health at first", x.inspect(id).Health, runtime.HealthStarting)
	become := func(h runtime.Health) runtime.Container {
		x.Helper()
		return x.eventually(id, string(h), func(c runtime.Container) bool { return c.Health == h })
	}
	become(runtime.HealthHealthy)
	x.exec(id, "writefile", "/tmp/sick", "no database")
	c := become(runtime.HealthUnhealthy)
	if !strings.Contains(c.HealthOutput, "no database") {
		x.Fatalf("output of the check: %q", c.HealthOutput)
	}
	x.exec(id, "rm", "/tmp/sick")
	become(runtime.HealthHealthy)
	list, err := x.e.List(x.Context(), x.filter())
	x.ok(err)
	equal(x, "health in the list", list[0].Health, runtime.HealthHealthy)
	x.ok(x.e.Stop(x.Context(), id, "", 10*time.Second))
	equal(x, "health once stopped", x.inspect(id).Health, runtime.HealthUnhealthy)
}

func caseHealthDisabled(x *fixture) {
	spec := x.spec("sleep")
	spec.Healthcheck = &runtime.Healthcheck{Disable: true}
	equal(x, "health", x.inspect(x.start(spec)).Health, runtime.HealthNone)
}

func caseIdentity(x *fixture) {
	want := runtime.Identity{
		Owner: "owner", Stack: x.id, Service: "web", Slot: 3, Revision: "abc", Node: "n1", WorkingDir: "/srv/a b",
		ConfigFiles: []string{"/srv/a b/compose.yaml", "/srv/x.yaml"}, DependsOn: []string{"db:service_healthy:true"}, Version: "1.2", ImageID: "sha256:1",
	}
	labels := want.Labels()
	labels[Label] = x.id
	id, err := x.e.Create(x.Context(), x.name(), labels, x.spec("sleep"), nil)
	x.ok(err)
	c := x.inspect(id)
	got, err := runtime.ParseIdentity(c.Labels)
	x.ok(err)
	if !got.Same(want) || got.WorkingDir != want.WorkingDir || got.Node != want.Node {
		x.Fatalf("got %+v, want %+v", got, want)
	}
	equalList(x, "config files", got.ConfigFiles, want.ConfigFiles)
	equalList(x, "dependencies", c.DependsOn, want.DependsOn)
}
