package runtime

import "time"

// Spec is everything that creates a container, as plain values. The zero value
// of each field means "the engine's or the image's default". Maps are never
// iterated on the way to an engine without sorting.
type Spec struct {
	Image      string            `json:"image"`
	Platform   string            `json:"platform,omitempty"`  // os/arch[/variant]
	Entrypoint []string          `json:"entrypoint,omitzero"` // nil: the image's; empty, not nil: cleared
	Command    []string          `json:"command,omitzero"`    // nil: the image's
	Env        []string          `json:"env,omitempty"`       // KEY=value; KEY alone unsets the image's
	WorkingDir string            `json:"workingDir,omitempty"`
	User       string            `json:"user,omitempty"`
	GroupAdd   []string          `json:"groupAdd,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"` // the user's; identity labels come from [Identity]
	Annotation map[string]string `json:"annotations,omitempty"`

	Hostname   string   `json:"hostname,omitempty"`
	Domainname string   `json:"domainname,omitempty"`
	ExtraHosts []string `json:"extraHosts,omitempty"` // host:ip
	DNS        []string `json:"dns,omitempty"`
	DNSOptions []string `json:"dnsOptions,omitempty"`
	DNSSearch  []string `json:"dnsSearch,omitempty"`

	// NetworkMode is "none", "host", "bridge" or "container:<name or ID>". Empty
	// with Networks set means the first of them.
	NetworkMode string       `json:"networkMode,omitempty"`
	Networks    []Attachment `json:"networks,omitempty"` // in order of priority
	Ports       []Port       `json:"ports,omitempty"`
	Expose      []string     `json:"expose,omitempty"` // "80/tcp"
	Links       []string     `json:"links,omitempty"`  // container:alias
	MacAddress  string       `json:"macAddress,omitempty"`

	Mounts      []Mount  `json:"mounts,omitempty"`
	VolumesFrom []string `json:"volumesFrom,omitempty"` // container[:ro|rw]
	Files       []File   `json:"files,omitempty"`       // written into the container before it starts

	Healthcheck *Healthcheck  `json:"healthcheck,omitempty"`
	StopSignal  string        `json:"stopSignal,omitempty"`
	StopGrace   time.Duration `json:"stopGrace,omitempty"` // 0: [DefaultStopGrace]
	Restart     RestartPolicy `json:"restart,omitzero"`
	Init        *bool         `json:"init,omitempty"`
	TTY         bool          `json:"tty,omitempty"`
	StdinOpen   bool          `json:"stdinOpen,omitempty"`
	StdinOnce   bool          `json:"stdinOnce,omitempty"` // with StdinOpen: stdin ends when the first who is attached ends it
	Attach      *bool         `json:"attach,omitempty"`    // false: its output is not followed by up
	Logging     *Logging      `json:"logging,omitempty"`

	Privileged     bool              `json:"privileged,omitempty"`
	ReadOnly       bool              `json:"readOnly,omitempty"`
	CapAdd         []string          `json:"capAdd,omitempty"`
	CapDrop        []string          `json:"capDrop,omitempty"`
	SecurityOpt    []string          `json:"securityOpt,omitempty"`
	Sysctls        map[string]string `json:"sysctls,omitempty"`
	PidMode        string            `json:"pidMode,omitempty"` // "host" or "container:<id>"
	IpcMode        string            `json:"ipcMode,omitempty"`
	UTSMode        string            `json:"utsMode,omitempty"`
	UsernsMode     string            `json:"usernsMode,omitempty"`
	CgroupNS       string            `json:"cgroupns,omitempty"` // "host" or "private"
	Runtime        string            `json:"runtime,omitempty"`
	Isolation      string            `json:"isolation,omitempty"`
	OomScoreAdj    int               `json:"oomScoreAdj,omitempty"` // -1000..1000
	StorageOpt     map[string]string `json:"storageOpt,omitempty"`
	Devices        []Device          `json:"devices,omitempty"`
	DeviceRequests []DeviceRequest   `json:"deviceRequests,omitempty"`
	CgroupRules    []string          `json:"deviceCgroupRules,omitempty"`

	Limits Limits `json:"limits,omitzero"` // changed in place
	Fixed  Fixed  `json:"fixed,omitzero"`  // set at creation only
}

// DefaultStopGrace is how long a stopping container has before it is killed,
// as Compose and the Docker Engine have it.
const DefaultStopGrace = 10 * time.Second

// Grace returns the time the container has between its stop signal and the kill.
func (s *Spec) Grace() time.Duration {
	if s.StopGrace > 0 {
		return s.StopGrace
	}
	return DefaultStopGrace
}

// Limits are the cgroup ceilings and weights that an engine changes on a live
// container. Zero means none.
type Limits struct {
	NanoCPUs          int64  `json:"nanoCpus,omitempty"` // 1e9 is one core
	CPUShares         int64  `json:"cpuShares,omitempty"`
	CPUPeriod         int64  `json:"cpuPeriod,omitempty"` // microseconds
	CPUQuota          int64  `json:"cpuQuota,omitempty"`  // microseconds per period
	CPURTPeriod       int64  `json:"cpuRtPeriod,omitempty"`
	CPURTRuntime      int64  `json:"cpuRtRuntime,omitempty"`
	CPUSetCPUs        string `json:"cpuset,omitempty"` // "0-2,5"
	CPUSetMems        string `json:"cpusetMems,omitempty"`
	Memory            int64  `json:"memory,omitempty"`            // bytes
	MemoryReservation int64  `json:"memoryReservation,omitempty"` // bytes, soft
	MemorySwap        int64  `json:"memorySwap,omitempty"`        // bytes of memory plus swap; -1 unlimited
	Pids              int64  `json:"pids,omitempty"`              // -1 unlimited
	BlkioWeight       uint16 `json:"blkioWeight,omitempty"`       // 10..1000
}

// Fixed are the resource settings that only creation can set.
type Fixed struct {
	CgroupParent      string           `json:"cgroupParent,omitempty"`
	ShmSize           int64            `json:"shmSize,omitempty"` // bytes
	Ulimits           []Ulimit         `json:"ulimits,omitempty"`
	MemorySwappiness  *int64           `json:"memorySwappiness,omitempty"` // 0..100
	OomKillDisable    bool             `json:"oomKillDisable,omitempty"`
	CPUCount          int64            `json:"cpuCount,omitempty"`   // Windows engines
	CPUPercent        int64            `json:"cpuPercent,omitempty"` // Windows engines
	BlkioWeightDevice []WeightDevice   `json:"blkioWeightDevice,omitempty"`
	BlkioReadBps      []ThrottleDevice `json:"blkioReadBps,omitempty"`
	BlkioWriteBps     []ThrottleDevice `json:"blkioWriteBps,omitempty"`
	BlkioReadIOps     []ThrottleDevice `json:"blkioReadIops,omitempty"`
	BlkioWriteIOps    []ThrottleDevice `json:"blkioWriteIops,omitempty"`
}

// Ulimit is one resource limit of the container's processes.
type Ulimit struct {
	Name string `json:"name"`
	Soft int64  `json:"soft"`
	Hard int64  `json:"hard"`
}

// WeightDevice is a block device's share of I/O, 10..1000.
type WeightDevice struct {
	Path   string `json:"path"`
	Weight uint16 `json:"weight"`
}

// ThrottleDevice is a block device's ceiling in bytes or operations a second.
type ThrottleDevice struct {
	Path string `json:"path"`
	Rate uint64 `json:"rate"`
}

// RestartPolicy is the engine's own restart policy.
type RestartPolicy struct {
	Name       string `json:"name,omitempty"` // "", "no", "always", "on-failure", "unless-stopped"
	MaxRetries int    `json:"maxRetries,omitempty"`
}

// Active reports whether the engine restarts the container by itself.
func (p RestartPolicy) Active() bool { return p.Name != "" && p.Name != "no" }

// Attachment connects a container to a network.
type Attachment struct {
	Network    string            `json:"network"` // the engine's name of it
	Aliases    []string          `json:"aliases,omitempty"`
	IPv4       string            `json:"ipv4,omitempty"`
	IPv6       string            `json:"ipv6,omitempty"`
	LinkLocal  []string          `json:"linkLocal,omitempty"`
	MacAddress string            `json:"macAddress,omitempty"`
	Interface  string            `json:"interface,omitempty"`
	Gateway    int               `json:"gatewayPriority,omitempty"`
	DriverOpts map[string]string `json:"driverOpts,omitempty"`
}

// Port publishes a container's port on the host.
type Port struct {
	Target    uint16 `json:"target"`
	Published string `json:"published,omitempty"` // port or range; empty: the engine chooses
	HostIP    string `json:"hostIp,omitempty"`
	Protocol  string `json:"protocol,omitempty"` // "tcp" (default), "udp", "sctp"
}

// MountType says what is mounted.
type MountType string

// The kinds of mount.
const (
	MountBind    MountType = "bind"
	MountVolume  MountType = "volume"
	MountTmpfs   MountType = "tmpfs"
	MountImage   MountType = "image"
	MountPipe    MountType = "npipe"
	MountCluster MountType = "cluster"
)

// Mount is one mount of a container. A volume mount without a source is an
// anonymous volume.
type Mount struct {
	Type         MountType         `json:"type"`
	Source       string            `json:"source,omitempty"` // host path, or the engine's volume or image name
	Target       string            `json:"target"`
	ReadOnly     bool              `json:"readOnly,omitempty"`
	Propagation  string            `json:"propagation,omitempty"`
	CreateSource bool              `json:"createSource,omitempty"` // bind: make the host directory when missing
	Recursive    string            `json:"recursive,omitempty"`    // bind: "disabled", "enabled", "writable", "readonly"
	SELinux      string            `json:"selinux,omitempty"`      // bind: "z" or "Z"
	NoCopy       bool              `json:"noCopy,omitempty"`       // volume: do not fill it from the image
	Subpath      string            `json:"subpath,omitempty"`      // volume or image
	Driver       string            `json:"driver,omitempty"`
	DriverOpts   map[string]string `json:"driverOpts,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
	TmpfsSize    int64             `json:"tmpfsSize,omitempty"` // bytes
	TmpfsMode    uint32            `json:"tmpfsMode,omitempty"`
	TmpfsOptions string            `json:"tmpfsOptions,omitempty"` // as in --tmpfs, such as "noexec,size=1m"
	Consistency  string            `json:"consistency,omitempty"`
}

// File is a config or secret written into the container before it starts. The
// content itself is never part of a spec: it stays in the secret store and is
// handed to the engine beside the spec at creation.
type File struct {
	Name   string `json:"name"`   // key of the content in the store
	Target string `json:"target"` // absolute path inside the container
	UID    int    `json:"uid,omitempty"`
	GID    int    `json:"gid,omitempty"`
	Mode   uint32 `json:"mode,omitempty"` // permission bits; 0: 0444
}

// Device maps a host device into the container.
type Device struct {
	Source      string `json:"source"`
	Target      string `json:"target,omitempty"`
	Permissions string `json:"permissions,omitempty"` // default "rwm"
}

// DeviceRequest asks a device driver, such as nvidia's, for devices.
type DeviceRequest struct {
	Driver       string            `json:"driver,omitempty"`
	Count        int               `json:"count,omitempty"` // -1: all
	IDs          []string          `json:"ids,omitempty"`
	Capabilities []string          `json:"capabilities,omitempty"`
	Options      map[string]string `json:"options,omitempty"`
}

// Healthcheck is the engine's own check. A nil Test keeps the image's command
// and overrides only the times; Disable turns the image's check off.
type Healthcheck struct {
	Test          []string      `json:"test,omitempty"` // {"CMD", …} or {"CMD-SHELL", …}
	Interval      time.Duration `json:"interval,omitempty"`
	Timeout       time.Duration `json:"timeout,omitempty"`
	StartPeriod   time.Duration `json:"startPeriod,omitempty"`
	StartInterval time.Duration `json:"startInterval,omitempty"` // needs API 1.44
	Retries       int           `json:"retries,omitempty"`
	Disable       bool          `json:"disable,omitempty"`
}

// Logging is the engine's log driver for the container.
type Logging struct {
	Driver  string            `json:"driver,omitempty"`
	Options map[string]string `json:"options,omitempty"`
}
