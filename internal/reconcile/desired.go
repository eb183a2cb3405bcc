package reconcile

import (
	"cmp"
	"slices"
	"time"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/scaling"
)

// Want is what a service's replicas are to be.
type Want string

// What can be wanted of a service. Absent replicas have no container, but the
// service stays part of the stack.
const (
	WantRunning Want = "running"
	WantStopped Want = "stopped"
	WantPaused  Want = "paused"
	WantCreated Want = "created"
	WantAbsent  Want = "absent"
)

// Desired is what one stack is to be: the edited sum of all commands. It is
// stored, so it holds no secret content.
type Desired struct {
	Stack    *stack.Stack            `json:"stack"`
	Owner    string                  `json:"owner"`   // of this installation
	Version  string                  `json:"version"` // of the program, for labels
	Services map[string]ServiceState `json:"services"`
	// Down is set while the stack is being taken down; it is forgotten once
	// nothing of it is left.
	Down *Down `json:"down,omitempty"`
	// RemoveOrphans: containers of this stack that no service explains are removed.
	RemoveOrphans bool `json:"removeOrphans,omitempty"`
	// Requests are one-time operations, each satisfied at most once.
	Requests []Request `json:"requests,omitempty"`
	OneOffs  []OneOff  `json:"oneOffs,omitempty"`
	// Adopt lets the stack take over containers, networks and volumes that
	// carry its name but were made by Docker Compose or another installation.
	Adopt bool `json:"adopt,omitempty"`
	// Atomic: a service that fails its rollout takes the whole stack back.
	Atomic bool `json:"atomic,omitempty"`
	// Lost is set for a stack rebuilt from labels after its file was lost:
	// nothing of it is removed or replaced until it is declared again.
	Lost bool `json:"lost,omitempty"`
}

// ServiceState is what commands have made of one service of the file.
type ServiceState struct {
	Want  Want           `json:"want"`
	Scale *int           `json:"scale,omitempty"`   // by hand; nil: as the file says
	Grace *time.Duration `json:"timeout,omitempty"` // -t of the last command; nil: the service's own
	// Renew: replacements get fresh anonymous volumes.
	RenewVolumes bool `json:"renewVolumes,omitempty"`
	// Undone: an undo has declared it, so that it is what it was before.
	Undone bool `json:"undone,omitempty"`
	// KeepRevision: a changed spec does not replace existing containers (--no-recreate).
	KeepRevision bool `json:"keepRevision,omitempty"`
	// ImageID pins the image that the service's reference meant when it was last
	// declared: a tag that moves later replaces nothing by itself. Empty: not known yet.
	ImageID string `json:"imageId,omitempty"`
	// ImageRef names that image where x-berth.imageUpdate found another one than the
	// service's own reference; empty: it did not.
	ImageRef string `json:"imageRef,omitempty"`
	// ChangedFrom and Changed say which keys of the spec the last declaration
	// changed, and from which revision, for the cause of a replacement.
	ChangedFrom string   `json:"changedFrom,omitempty"`
	Changed     []string `json:"changed,omitempty"`
	// Auto is how many replicas the autoscaler has decided on; nil: nothing yet.
	Auto *int `json:"auto,omitempty"`
	// AutoHeld: the autoscaler only watches until it is resumed.
	AutoHeld bool `json:"autoHeld,omitempty"`
	// Rest is how the service rests because nobody uses it; nil: it does not.
	Rest *Rest `json:"rest,omitempty"`
	// Size are limits that take the place of the file's, as they were found to fit;
	// 0: as the file says.
	Size Size `json:"size,omitzero"`
	// Base is what the service goes back to when its present revision fails; nil
	// once all its replicas have that one.
	Base *Base `json:"base,omitempty"`
	// Added: the service is new with an atomic up that is still to succeed.
	Added bool `json:"added,omitempty"`
	// Held: no further replica is replaced until somebody resumes the rollout.
	Held bool `json:"held,omitempty"`
	// Resumed is when somebody last asked for the rollout to go on.
	Resumed time.Time `json:"resumed,omitzero"`
	// RolledBack says that the service stands on an earlier revision than the one
	// declared last, and why; nil: it does not.
	RolledBack *RolledBack `json:"rolledBack,omitempty"`
}

// Rest says how a service rests, and why. The first connection to a port that the
// balancer holds wakes it.
type Rest struct {
	Do    scaling.IdleAction `json:"do"`
	Why   string             `json:"why"`
	Since time.Time          `json:"since"`
}

// Size is a replica's limits.
type Size struct {
	NanoCPUs int64 `json:"nanoCpus,omitempty"`
	Memory   int64 `json:"memory,omitempty"` // bytes
}

// want is what a service's replicas are to be now: one that is to run may rest.
func (s ServiceState) want() Want {
	want := cmp.Or(s.Want, WantAbsent)
	if s.Rest == nil || want != WantRunning {
		return want
	}
	switch s.Rest.Do {
	case scaling.IdleStop:
		return WantStopped
	case scaling.IdlePause:
		return WantPaused
	default:
		return want
	}
}

// throttled is how much CPU a replica of a resting service gets, in nanocores: a
// twentieth of a core.
const throttled = 50_000_000

// limits are those of a service's replicas.
func (s ServiceState) limits(l runtime.Limits) runtime.Limits {
	if s.Size.NanoCPUs > 0 {
		l.NanoCPUs, l.CPUQuota, l.CPUPeriod = s.Size.NanoCPUs, 0, 0
	}
	if s.Size.Memory > 0 {
		if l.MemorySwap > 0 {
			l.MemorySwap += s.Size.Memory - l.Memory // the swap itself stays as large
		}
		l.Memory = s.Size.Memory
		l.MemoryReservation = min(l.MemoryReservation, l.Memory)
	}
	if s.Rest != nil && s.Rest.Do == scaling.IdleThrottle {
		l.NanoCPUs, l.CPUQuota, l.CPUPeriod = throttled, 0, 0
	}
	return l
}

// Base is a revision that was rolled out as a whole.
type Base struct {
	Service stack.Service `json:"service"`
	ImageID string        `json:"imageId,omitempty"` // that its replicas run
}

// RolledBack says why a service went back to its last good revision.
type RolledBack struct {
	From string    `json:"from"` // the revision that failed
	Why  string    `json:"why"`
	At   time.Time `json:"at"`
	// Seen: a later command has found it so. Until then whoever waits for the
	// stack is told.
	Seen bool `json:"seen,omitempty"`
}

// Down says how a stack is taken down.
type Down struct {
	Volumes       bool           `json:"volumes,omitempty"` // named volumes of the stack and anonymous ones too
	RemoveOrphans bool           `json:"removeOrphans,omitempty"`
	Grace         *time.Duration `json:"timeout,omitempty"`
	// Services limits it to these, which become absent; empty: all, with networks
	// and the stack itself. A stack's Desired.Down is always of the second kind.
	Services []string `json:"services,omitempty"`
}

// Request is a one-time operation on one container. It is satisfied, and
// forgotten, as soon as the container is gone or is no longer in the run that
// was seen when the request was made; so a crash between the two never does it twice.
type Request struct {
	Op        runtime.Op     `json:"op"` // start, restart, kill, remove (which means recreate), or [RequestMove]
	Container string         `json:"container"`
	Started   time.Time      `json:"started,omitzero"`  // Container.Started when it was made
	Finished  time.Time      `json:"finished,omitzero"` // Container.Finished when it was made
	Signal    string         `json:"signal,omitempty"`
	Node      string         `json:"node,omitempty"` // to move to
	Grace     *time.Duration `json:"timeout,omitempty"`
	Cause     string         `json:"cause"`
}

// WithRequests returns the wish with more one-time operations.
func (d *Desired) WithRequests(list []Request) *Desired {
	next := *d
	next.Requests = append(slices.Clone(d.Requests), list...)
	return &next
}

// OneOff is a container made by run, outside the service's replicas.
type OneOff struct {
	Service    string       `json:"service"`
	Number     int          `json:"number"`
	Name       string       `json:"name"`
	Spec       runtime.Spec `json:"spec"`
	Container  string       `json:"container,omitempty"`  // its ID, once it was created
	Start      bool         `json:"start,omitempty"`      // false: the client attaches first
	AutoRemove bool         `json:"autoRemove,omitempty"` // once it has exited
	Remove     bool         `json:"remove,omitempty"`
	// Grace is how long it has to stop; nil: the service's own.
	Grace *time.Duration `json:"timeout,omitempty"`
}

// Replicas returns how many replicas of svc are wanted.
func (d *Desired) Replicas(svc *stack.Service) int {
	switch st := d.Services[svc.Name]; {
	case st.Scale != nil:
		return *st.Scale
	case st.Auto != nil:
		return *st.Auto
	default:
		return svc.Replicas
	}
}

// Observed is what an engine holds of one stack.
type Observed struct {
	Containers []runtime.Container        `json:"containers"` // all with the stack's label, sorted by name
	Networks   map[string]runtime.Network `json:"networks"`   // by name: those the stack names or owns
	Volumes    map[string]runtime.Volume  `json:"volumes"`
	Images     map[string]ImageState      `json:"images"` // by reference: those the stack names
	// Probes are the statuses of the containers' probes, by container ID.
	Probes map[string]health.Status `json:"probes,omitempty"`
	// OOMs count the processes of a container, by its ID, of which an event told
	// that they were killed for want of memory.
	OOMs map[string]int `json:"ooms,omitempty"`
	// Tails are the last lines of output of containers that failed, by ID.
	Tails map[string]string `json:"tails,omitempty"`
	// LastLines are the last lines of output of the containers that a plan named as
	// culprits, by ID, as soon as they were read; empty: it wrote nothing, or that
	// cannot be read. nil: nobody reads any.
	LastLines map[string]string `json:"lastLines,omitempty"`
	// Cluster is what is known of the nodes; nil: nothing, and the engine alone
	// decides where containers run.
	Cluster *Cluster `json:"cluster,omitempty"`
	// Backends are the containers the balancer knows, by ID.
	Backends map[string]Backend `json:"backends,omitempty"`
	// Relays are the relays that are told where to lead, by container ID; nil: none
	// is ever told. Carried is what they say of the containers they lead to, by ID.
	Relays  map[string]RelayState `json:"relays,omitempty"`
	Carried map[string]Backend    `json:"carried,omitempty"`
	// Unbound says why the balancer cannot listen at a service's ports, by service.
	Unbound map[string]string `json:"unbound,omitempty"`
	// Reach is how the balancer of this machine gets to the containers.
	Reach Reach `json:"reach,omitempty"`
	// Unknown are the IDs of containers about which the engine does not answer:
	// their records may be old, so nothing is done to them.
	Unknown map[string]string `json:"unknown,omitempty"`
}

// ImageState is what is known of an image reference.
type ImageState struct {
	ID       string   `json:"id,omitempty"` // empty: not on the engine
	Volumes  []string `json:"volumes,omitempty"`
	HasCheck bool     `json:"hasCheck,omitempty"`
}
