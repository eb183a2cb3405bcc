package stack

import (
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
)

// Class says what becomes of a key.
type Class string

// The classes of a key.
const (
	Carried Class = "carried out"
	Later   Class = "not yet"
	Refused Class = "refused"
)

// Support is what becomes of one key of a Compose file. "*" in its path stands
// for a name or a list's element. A later or refused key covers all below it.
type Support struct {
	Path  string
	Class Class
	Note  string // for the documentation; of a later or refused key also the warning
	Fatal bool   // refused with an error, since running without it would be wrong

	// only limits a later or refused key to some of its values.
	only func(value any) bool
	// derived: the key stands under pre_start and shares the fate of the service's own.
	derived bool
}

// message is what a user reads where the key stands.
func (s *Support) message() string {
	switch s.Class {
	case Later:
		return "not carried out yet: " + s.Note
	case Refused:
		return "not carried out: " + s.Note
	case Carried:
	}
	return s.Note
}

// SupportTable classifies every key of the Compose specification and of
// x-berth. A test holds it against the library's types and the two schemas.
func SupportTable() []Support {
	service := slices.Concat(serviceTable(), processTable(), resourceTable(), mountTable(), networkTable(), deployTable(), buildTable())
	return slices.Concat(topLevelTable(), service, hookTable(), stepTable(service), objectTable(), extensionTable())
}

// key is one line of a group: its name below the group's prefix and a note.
type key struct{ name, note string }

func group(prefix string, class Class, keys ...key) []Support {
	out := make([]Support, len(keys))
	for i, k := range keys {
		out[i] = Support{Path: prefix + k.name, Class: class, Note: k.note}
	}
	return out
}

func carried(prefix string, keys ...key) []Support { return group(prefix, Carried, keys...) }
func refused(prefix string, keys ...key) []Support { return group(prefix, Refused, keys...) }

func fatal(prefix string, class Class, keys ...key) []Support {
	out := group(prefix, class, keys...)
	for i := range out {
		out[i].Fatal = true
	}
	return out
}

func unless(prefix string, class Class, k key, only func(any) bool) []Support {
	out := group(prefix, class, k)
	out[0].only = only
	return out
}

// names are keys without a note.
func names(list ...string) []key {
	out := make([]key, len(list))
	for i, n := range list {
		out[i].name = n
	}
	return out
}

func topLevelTable() []Support {
	return slices.Concat(
		carried("",
			key{"name", "-p and COMPOSE_PROJECT_NAME win over it"},
			key{"include", "local files only: nothing is fetched from Git, OCI registries or the web"},
			key{"services", ""}, key{"networks", ""}, key{"volumes", ""}, key{"secrets", ""}, key{"configs", ""},
		),
		refused("",
			key{"version", "it has had no meaning since Compose v2; remove it"},
			key{"jobs", "jobs are not scheduled; run the task as a service of a profile"},
			key{"models", "there is no model runner; run the model as a service"},
		),
	)
}

func serviceTable() []Support {
	const p = "services.*."
	return slices.Concat(
		carried(p,
			key{"name", "the key itself"},
			key{"profiles", ""},
			key{"extends", "with file: local files only"}, key{"extends.file", ""}, key{"extends.service", ""},
			key{"container_name", "one replica only"},
			key{"attach", "whether a foreground up follows its output"},
			key{"scale", ""},
			key{"restart", "the engine's own policy: it works while Berth is down"},
			key{"image", ""},
			key{"build", ""},
			key{"depends_on", ""},
			key{"depends_on.*.condition", "service_started, service_healthy, service_completed_successfully"},
			key{"depends_on.*.required", ""},
			key{"depends_on.*.restart", ""},
			key{"links", "also makes the service depend on the linked one"},
			key{"external_links", ""},
			key{"platform", ""},
			key{"pull_policy", ""}, key{"pull_refresh_after", "with pull_policy: refresh"},
			key{"deploy", ""},
		),
		fatal(p, Refused,
			key{"provider", "it runs a program of Docker Compose's; declare the service itself"},
			key{"models", "there is no model runner; run the model as a service"},
			key{"use_api_socket", "it hands out the engine and its registry credentials; mount what is needed under volumes:"},
		),
		refused(p,
			key{"develop", "files are not watched; use volumes: or up again"},
			key{"credential_spec", "it is for Windows engines"},
			key{"umask", "the engine has no such setting; set it in the entrypoint"},
			key{"net", "not part of the specification; use network_mode:"},
			key{"dockerfile", "not part of the specification; use build.dockerfile:"},
			key{"log_driver", "not part of the specification; use logging:"},
			key{"log_opt", "not part of the specification; use logging:"},
			key{"volume_driver", "not part of the specification; name the driver under volumes:"},
		),
	)
}

// hookTable are the commands and containers around a service's life.
func hookTable() []Support {
	const p = "services.*."
	return slices.Concat(
		carried(p, key{"post_start", "in order, each time the container has started; one that fails stops it"}),
		carried(p+"post_start.*.", names("command", "user", "privileged", "working_dir", "environment")...),
		carried(p, key{"pre_stop", "in order, before the container is told to stop, within its stop_grace_period; not when it ends by itself"}),
		carried(p+"pre_stop.*.", names("command", "user", "privileged", "working_dir", "environment")...),
		carried(p,
			key{"pre_start", "containers that run to their end before the service starts; " +
				"each takes every key that describes a container, and has the service's value where it does not give its own, also for its limits and mounts"},
			key{"pre_start.*.per_replica", "false: once for the service and its revision"},
		),
	)
}

// stepTable are the keys of a pre_start step that the specification has for
// every container.
func stepTable(service []Support) []Support {
	const prefix = "services.*."
	var out []Support
	for _, s := range service {
		name, ok := strings.CutPrefix(s.Path, prefix)
		first, _, _ := strings.Cut(name, ".")
		if !ok || !slices.Contains(types.ContainerSpecAttributes, first) {
			continue
		}
		s.Path, s.derived = prefix+"pre_start.*."+name, true
		out = append(out, s)
	}
	return out
}

func processTable() []Support {
	const p = "services.*."
	return carried(p, slices.Concat(
		names("command", "entrypoint", "environment"),
		[]key{{"env_file", "regular files only"}, {"env_file.*.path", ""}, {"env_file.*.required", ""}, {"env_file.*.format", ""}},
		names("working_dir", "user", "group_add", "labels"),
		[]key{{"label_file", "regular files only"}, {"annotations", "needs API 1.43"}},
		names("hostname", "domainname", "extra_hosts", "dns", "dns_opt", "dns_search"),
		names("init", "tty", "stdin_open", "stop_signal", "stop_grace_period"),
		names("healthcheck", "healthcheck.test", "healthcheck.interval", "healthcheck.timeout", "healthcheck.retries", "healthcheck.start_period"),
		[]key{{"healthcheck.start_interval", "needs API 1.44"}, {"healthcheck.disable", ""}},
		names("logging", "logging.driver", "logging.options"),
		names("privileged", "read_only", "cap_add", "cap_drop", "sysctls", "storage_opt", "runtime", "isolation"),
		[]key{{"security_opt", "a seccomp profile is read from its file"}},
		[]key{{"pid", "service:x also makes the service depend on x"}, {"ipc", "service:x also makes the service depend on x"}},
		names("uts", "userns_mode", "cgroup", "cgroup_parent"),
	)...)
}

func resourceTable() []Support {
	const p = "services.*."
	return slices.Concat(
		carried(p, names("cpus", "cpu_shares", "cpu_period", "cpu_quota", "cpuset", "cpu_rt_period", "cpu_rt_runtime")...),
		carried(p, key{"cpu_count", "Windows engines"}, key{"cpu_percent", "Windows engines"}),
		carried(p, names("mem_limit", "mem_reservation", "memswap_limit", "mem_swappiness", "oom_kill_disable", "oom_score_adj",
			"pids_limit", "shm_size", "ulimits", "ulimits.*.single", "ulimits.*.soft", "ulimits.*.hard")...),
		carried(p+"blkio_config", names("", ".weight", ".weight_device", ".weight_device.*.path", ".weight_device.*.weight")...),
		throttleTable("device_read_bps"), throttleTable("device_read_iops"), throttleTable("device_write_bps"), throttleTable("device_write_iops"),
		carried(p, key{"devices", "a CDI name is asked of its driver"}),
		carried(p, names("devices.*.source", "devices.*.target", "devices.*.permissions", "device_cgroup_rules")...),
		carried(p, names("gpus", "gpus.*.capabilities", "gpus.*.driver", "gpus.*.count", "gpus.*.device_ids", "gpus.*.options")...),
	)
}

func throttleTable(name string) []Support {
	return carried("services.*.blkio_config."+name, names("", ".*.path", ".*.rate")...)
}

func mountTable() []Support {
	const p, v = "services.*.", "services.*.volumes"
	return slices.Concat(
		carried(v, names("", ".*.type", ".*.source", ".*.target", ".*.read_only")...),
		carried(v, key{".*.consistency", "a hint that Linux engines ignore"}),
		carried(v, names(".*.bind", ".*.bind.propagation", ".*.bind.selinux", ".*.bind.create_host_path")...),
		carried(v, key{".*.bind.recursive", "needs API 1.44"}),
		carried(v, names(".*.volume", ".*.volume.labels", ".*.volume.nocopy")...),
		carried(v, key{".*.volume.subpath", "needs API 1.45"}),
		carried(v, names(".*.tmpfs", ".*.tmpfs.size", ".*.tmpfs.mode")...),
		carried(v, key{".*.image", "needs API 1.48"}, key{".*.image.subpath", "needs API 1.48"}),
		carried(p, key{"tmpfs", ""}, key{"volumes_from", "also makes the service depend on the other"}),
		fileTable(p+"configs"), fileTable(p+"secrets"),
	)
}

// fileTable is a service's use of a config or secret.
func fileTable(prefix string) []Support {
	return carried(prefix,
		key{"", "a file is mounted read-only; environment: and content: are written into the container"},
		key{".*.source", ""}, key{".*.target", ""},
		key{".*.uid", "a file is then written into the container, not mounted"},
		key{".*.gid", "a file is then written into the container, not mounted"},
		key{".*.mode", "a file is then written into the container, not mounted"},
	)
}

func networkTable() []Support {
	const p, n = "services.*.", "services.*.networks"
	return slices.Concat(
		carried(p, key{"network_mode", "service:x also makes the service depend on x"}, key{"mac_address", ""}, key{"expose", ""}),
		carried(n, names("", ".*.aliases", ".*.driver_opts", ".*.ipv4_address", ".*.ipv6_address", ".*.link_local_ips", ".*.mac_address",
			".*.priority", ".*.use_service_name_alias")...),
		carried(n, key{".*.gw_priority", "needs API 1.48"}, key{".*.interface_name", "needs API 1.49"}),
		carried(p+"ports",
			key{"", "two services cannot hold one fixed host port; for several replicas of one service Berth's balancer holds it"},
			key{".*.target", ""}, key{".*.published", "a port or a range the engine chooses from"}, key{".*.host_ip", ""}, key{".*.protocol", "tcp, udp, sctp; the balancer takes tcp and udp"},
			key{".*.mode", "on one engine both modes publish on its host"},
			key{".*.name", "what a probe may call the port"}, key{".*.app_protocol", "information for readers"},
		),
	)
}

func deployTable() []Support {
	const p = "services.*.deploy."
	return slices.Concat(
		carried(p,
			key{"mode", "replicated, global, replicated-job, global-job; global: one replica on each virtual node that takes it"},
			key{"replicas", "not with the global modes; of a replicated-job: how many are run at once, each until it exits with 0"},
		),
		carried(p, key{"labels", "kept with the stack and shown by explain; labels: of the service itself are those of its containers"}),
		carried(p,
			key{"update_config", "how a changed service is replaced, and one that changes its node; not with the job modes"},
			key{"update_config.parallelism", "default 1; 0: all at once"},
			key{"update_config.delay", "after each replica"},
			key{"update_config.order", "stop-first (the default); start-first: the new container is ready before the old one stops"},
			key{"update_config.monitor", "default 5s, also for 0s: a replica that fails so soon after its start has failed the update"},
			key{"update_config.max_failure_ratio", "0 to 1, default 0: of the replicas to be replaced; more is a failed update"},
			key{"update_config.failure_action", "pause (the default), continue, rollback"},
			key{"rollback_config", "how the last good revision comes back; defaults as of update_config"},
			key{"rollback_config.parallelism", ""}, key{"rollback_config.delay", ""}, key{"rollback_config.order", ""},
			key{"rollback_config.monitor", ""}, key{"rollback_config.max_failure_ratio", ""},
			key{"rollback_config.failure_action", "pause (the default), continue: a roll-back is never rolled back"},
			key{"endpoint_mode", "vip: one address that leads to ready replicas, for the ports under ports: and expose:; dnsrr, and without it: the addresses of all containers, as in Compose"},
		),
		carried(p,
			key{"placement", "over the virtual nodes of x-berth.nodes and `berth node`"},
			key{"placement.constraints", "node.id, node.hostname, node.role, node.platform.os, node.platform.arch, node.labels.X, engine.labels.X"},
			key{"placement.preferences", ""},
			key{"placement.preferences.*.spread", "node.labels.X or engine.labels.X"},
			key{"placement.max_replicas_per_node", "0 is no limit; not with the global modes"},
		),
		carried(p,
			key{"resources", ""}, key{"resources.limits", ""},
			key{"resources.limits.cpus", ""}, key{"resources.limits.memory", ""}, key{"resources.limits.pids", ""},
			key{"resources.reservations", ""},
			key{"resources.reservations.cpus", "a replica is placed only where its node has them left, in steps of 0.001"},
			key{"resources.reservations.memory", "a replica is placed only where its node has it left; also the engine's soft limit, as in Compose"},
			key{"resources.reservations.generic_resources", "a replica is placed only where its node has them left"},
			key{"resources.reservations.generic_resources.*.discrete_resource_spec", ""},
			key{"resources.reservations.generic_resources.*.discrete_resource_spec.kind", ""},
			key{"resources.reservations.generic_resources.*.discrete_resource_spec.value", ""},
			key{"resources.reservations.devices", ""},
			key{"resources.reservations.devices.*.capabilities", ""}, key{"resources.reservations.devices.*.driver", ""},
			key{"resources.reservations.devices.*.count", ""}, key{"resources.reservations.devices.*.device_ids", ""},
			key{"resources.reservations.devices.*.options", ""},
		),
		refused(p,
			key{"resources.limits.devices", "devices are reserved, not limited; use reservations.devices"},
			key{"resources.limits.generic_resources", "they are reserved, not limited; use reservations.generic_resources"},
			key{"resources.reservations.pids", "processes are limited, not reserved; use limits.pids"},
		),
		carried(p,
			key{"restart_policy", "carried out by Berth; the engine's own policy is then off and restart: has no effect"},
			key{"restart_policy.condition", "default any; for a job any means on-failure, since one that exited with 0 is done"}, key{"restart_policy.delay", "default 5s"},
			key{"restart_policy.max_attempts", ""}, key{"restart_policy.window", ""},
		),
	)
}

func buildTable() []Support {
	const p = "services.*.build."
	return slices.Concat(
		carried(p, key{"context", "a directory, or a Git URL that the engine fetches"}),
		carried(p, names("dockerfile", "dockerfile_inline", "args", "labels", "cache_from", "no_cache", "pull", "extra_hosts",
			"isolation", "network", "target", "shm_size", "tags", "ulimits", "ulimits.*.single", "ulimits.*.soft", "ulimits.*.hard")...),
		unless(p, Refused, key{"platforms", "only one platform is built at a time: the service's or the engine's"}, func(v any) bool {
			list, ok := v.([]any)
			return ok && len(list) > 1
		}),
		refused(p,
			key{"cache_to", "the engine's builder exports no cache"},
			key{"no_cache_filter", "the engine's builder has no stages to choose; use no_cache: true"},
			key{"ssh", "the engine's builder mounts no SSH agent"},
			key{"secrets", "the engine's builder mounts no secrets"},
			key{"entitlements", "the engine's builder grants none"},
			key{"provenance", "the engine's builder attests nothing"},
			key{"sbom", "the engine's builder attests nothing"},
			key{"privileged", "the engine's builder runs unprivileged"},
		),
		fatal(p, Refused, key{"additional_contexts", "the engine's builder would fetch an image of that name instead; copy the files into the context"}),
	)
}

func objectTable() []Support {
	return slices.Concat(
		carried("networks.*.", names("name", "driver", "driver_opts", "internal", "attachable", "labels", "enable_ipv6")...),
		carried("networks.*.", key{"enable_ipv4", "needs API 1.48"}, key{"external", "must exist; never created or removed"}),
		carried("networks.*.ipam", names("", ".driver", ".options", ".config", ".config.*.subnet", ".config.*.gateway", ".config.*.ip_range", ".config.*.aux_addresses")...),
		carried("volumes.*.", names("name", "driver", "driver_opts", "labels")...),
		carried("volumes.*.", key{"external", "must exist; never created or removed"}),
		contentTable("secrets"), contentTable("configs"),
	)
}

func contentTable(section string) []Support {
	p := section + ".*."
	return slices.Concat(
		carried(p, key{"name", "has no effect: contents are not objects of a plain engine"}, key{"file", "regular files only"}, key{"environment", ""}),
		carried(p, key{"content", map[string]string{"configs": "", "secrets": "not part of the specification for secrets"}[section]}),
		fatal(p, Refused, key{"external", "a plain engine keeps no such objects; give the content by file: or environment:"}),
		fatal(p, Refused, key{"driver", "a plain engine has no such drivers; give the content by file: or environment:"}),
		refused(p,
			key{"labels", "contents are not objects of a plain engine and carry no labels"},
			key{"driver_opts", "a plain engine has no such drivers"},
		),
		fatal(p, Refused, key{"template_driver", "the content would not be expanded; write it out"}),
	)
}

func extensionTable() []Support {
	return slices.Concat(
		carried("x-berth.",
			key{"nodes", "partitions of the engine; without any there is one node, as large as the engine"},
			key{"overcommit", "else nodes that promise more than the engine has are refused"},
			key{"strategy", "spread (the default), binpack, balanced"}, key{"weights", "instead of a strategy"},
			key{"revisions", "1 to 100, default 10: how many are kept to roll back to"},
		),
		carried("services.*.x-berth.",
			key{"priority", "of the stacks on one engine together"},
			key{"reservations", "disk and network, counted against the node's"},
			key{"nodeSelector", ""}, key{"affinity", ""}, key{"antiAffinity", ""},
			key{"tolerations", ""}, key{"spread", ""},
			key{"probes", "startup, readiness, liveness; without readiness the engine's healthcheck counts as it"},
			key{"onUnhealthy", "none (the default), restart, recreate, stop, pause; what a failing healthcheck of the engine leads to"},
			key{"dependsOn", "whileUnready: keep (the default), pause, stop while a dependency with service_healthy is not ready; deadline: how long dependencies are waited for"},
		),
		carried("services.*.x-berth.",
			key{"publish", "direct: the engine holds the published ports; balanced: Berth's balancer; without it: the balancer where two replicas would need one fixed host port"},
			key{"rollout", "maxSurge and maxUnavailable (instead of parallelism and order), minReady, progressDeadline (default 10m), canary"},
			key{"drain", "default 10s: how long the connections through the balancer may finish before their replica stops"},
			key{"balance", "policy: round-robin (the default), least-connections, random-two, source-hash; hold (default 10s) and maxHeld (default 1024): connections that wait while no replica is ready; drainIdle (default 1s): when a connection that a client keeps for later is ended while its replica drains"},
			key{"imageUpdate", "on the cron schedule, in UTC; policy: digest (the default), patch, minor, none"},
			key{"discovery", "dns (the default): the addresses of all containers; ready: one address that leads to ready replicas, for the ports under ports: and expose:"},
		),
		carried("services.*.x-berth.",
			key{"autoscale", "min (default 1), max, interval (default 15s), tolerance, metrics (default cpu at 80 % of the reservation), behavior, schedules, idle, concurrency, predict; min: 0 needs idle, concurrency or a webhook metric"},
			key{"resources", "mode: recommend (the default), auto: limits change in place, off; min and max"},
			key{"warm", "how many more replicas are kept paused"},
		),
	)
}
