package runtime

import "time"

// EngineInfo is what an engine says of itself.
type EngineInfo struct {
	ID            string   `json:"id"` // of this engine installation
	Version       string   `json:"version"`
	APIVersion    string   `json:"apiVersion"` // as negotiated
	OS            string   `json:"os"`
	Arch          string   `json:"arch"`
	KernelVersion string   `json:"kernelVersion"`
	CPUs          int      `json:"cpus"`
	Memory        int64    `json:"memory"` // bytes
	CgroupVersion int      `json:"cgroupVersion"`
	CgroupDriver  string   `json:"cgroupDriver"`
	Rootless      bool     `json:"rootless"`
	Host          string   `json:"host"` // the endpoint, such as unix:///var/run/docker.sock
	Runtimes      []string `json:"runtimes,omitempty"`
	Warnings      []string `json:"warnings,omitempty"`
}

// Image is a local image.
type Image struct {
	ID       string            `json:"id"`
	Tags     []string          `json:"tags,omitempty"`
	Digests  []string          `json:"digests,omitempty"`
	Created  time.Time         `json:"created,omitzero"`
	Size     int64             `json:"size"` // bytes
	OS       string            `json:"os"`
	Arch     string            `json:"arch"`
	Variant  string            `json:"variant,omitempty"`
	Platform string            `json:"platform,omitempty"`
	Volumes  []string          `json:"volumes,omitempty"`  // declared mount points
	Exposed  []string          `json:"exposed,omitempty"`  // "80/tcp"
	HasCheck bool              `json:"hasCheck,omitempty"` // it declares a HEALTHCHECK
	Labels   map[string]string `json:"labels,omitempty"`
}

// PullOptions says how an image is fetched. Credentials come from the Docker
// configuration of whoever runs the engine adapter.
type PullOptions struct {
	Platform string
	Progress func(Progress) // nil: none
}

// Progress is one line of what an engine tells while it pulls, pushes or builds.
type Progress struct {
	ID      string // layer, or empty
	Status  string // "Downloading", or a line of build output
	Current int64  // bytes
	Total   int64  // bytes; 0: unknown
}

// Build says how an image is built from source, by the engine.
type Build struct {
	Context          string            `json:"context"`              // directory, or a URL the engine fetches
	Dockerfile       string            `json:"dockerfile,omitempty"` // within the context, or absolute
	DockerfileInline string            `json:"dockerfileInline,omitempty"`
	Args             map[string]string `json:"args,omitempty"`
	UnsetArgs        []string          `json:"unsetArgs,omitempty"` // declared without a value
	Target           string            `json:"target,omitempty"`
	Tags             []string          `json:"tags,omitempty"`
	Labels           map[string]string `json:"labels,omitempty"`
	CacheFrom        []string          `json:"cacheFrom,omitempty"`
	NoCache          bool              `json:"noCache,omitempty"`
	Pull             bool              `json:"pull,omitempty"`
	Network          string            `json:"network,omitempty"`
	ExtraHosts       []string          `json:"extraHosts,omitempty"`
	ShmSize          int64             `json:"shmSize,omitempty"` // bytes
	Ulimits          []Ulimit          `json:"ulimits,omitempty"`
	Isolation        string            `json:"isolation,omitempty"`
	Platform         string            `json:"platform,omitempty"`
	MemoryBytes      int64             `json:"memory,omitempty"`
}

// NetworkSpec creates a network.
type NetworkSpec struct {
	Name       string            `json:"name"`
	Driver     string            `json:"driver,omitempty"`
	DriverOpts map[string]string `json:"driverOpts,omitempty"`
	Internal   bool              `json:"internal,omitempty"`
	Attachable bool              `json:"attachable,omitempty"`
	EnableIPv4 *bool             `json:"enableIpv4,omitempty"`
	EnableIPv6 *bool             `json:"enableIpv6,omitempty"`
	IPAM       *IPAM             `json:"ipam,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
}

// IPAM is a network's address management.
type IPAM struct {
	Driver  string            `json:"driver,omitempty"`
	Options map[string]string `json:"options,omitempty"`
	Pools   []IPPool          `json:"pools,omitempty"`
}

// IPPool is one subnet of a network.
type IPPool struct {
	Subnet  string            `json:"subnet,omitempty"`
	IPRange string            `json:"ipRange,omitempty"`
	Gateway string            `json:"gateway,omitempty"`
	Aux     map[string]string `json:"aux,omitempty"`
}

// Network is a network as the engine reports it.
type Network struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Driver     string            `json:"driver"`
	Scope      string            `json:"scope"`
	Internal   bool              `json:"internal,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Containers []string          `json:"containers,omitempty"` // IDs of what is attached and runs
}

// VolumeSpec creates a volume.
type VolumeSpec struct {
	Name       string            `json:"name"`
	Driver     string            `json:"driver,omitempty"`
	DriverOpts map[string]string `json:"driverOpts,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
}

// Volume is a volume as the engine reports it.
type Volume struct {
	Name       string            `json:"name"`
	Driver     string            `json:"driver"`
	Mountpoint string            `json:"mountpoint,omitempty"`
	Created    time.Time         `json:"created,omitzero"`
	Labels     map[string]string `json:"labels,omitempty"`
	DriverOpts map[string]string `json:"driverOpts,omitempty"`
}
