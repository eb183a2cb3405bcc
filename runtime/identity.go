package runtime

import (
	"fmt"
	"strconv"
	"strings"
)

// Schema is the version of the io.berth labels that this program writes. A
// container with another schema is an orphan: reported, never touched.
const Schema = "1"

// The labels Berth writes. Labels are fixed when an object is created: only
// facts that never change stand in them.
const (
	LabelSchema   = "io.berth.schema"
	LabelOwner    = "io.berth.owner"
	LabelStack    = "io.berth.stack"
	LabelService  = "io.berth.service"
	LabelSlot     = "io.berth.slot"
	LabelRevision = "io.berth.revision"
	LabelNode     = "io.berth.node"
	LabelPublish  = "io.berth.publish" // who holds the published ports, and which
	LabelOneOff   = "io.berth.oneoff"
	LabelInit     = "io.berth.init"   // on a container of a pre_start step: its number
	LabelRelay    = "io.berth.relay"  // on the relay of a service: the service
	LabelFiles    = "io.berth.files"  // on a volume: it holds a container's configs and secrets, and goes with it
	LabelHelper   = "io.berth.helper" // on a container of Berth's own, and its image: it belongs to no stack

	composePrefix        = "com.docker.compose."
	LabelComposeProject  = composePrefix + "project"
	LabelComposeService  = composePrefix + "service"
	LabelComposeNumber   = composePrefix + "container-number"
	LabelComposeHash     = composePrefix + "config-hash"
	LabelComposeOneOff   = composePrefix + "oneoff"
	LabelComposeDepends  = composePrefix + "depends_on"
	LabelComposeDir      = composePrefix + "project.working_dir"
	LabelComposeFiles    = composePrefix + "project.config_files"
	LabelComposeEnvFiles = composePrefix + "project.environment_file"
	LabelComposeVersion  = composePrefix + "version"
	LabelComposeImage    = composePrefix + "image"
	LabelComposeNetwork  = composePrefix + "network"
	LabelComposeVolume   = composePrefix + "volume"
)

// PublishBalanced says of a container that its service's ports are held by
// Berth's balancer.
const PublishBalanced = "balanced"

// Identity says which replica a container embodies. It is written into labels
// when the container is created and read back from them ever after.
type Identity struct {
	Owner    string // the installation of Berth that created it
	Stack    string
	Service  string
	Slot     int // 1-based
	Revision string
	Node     string
	Publish  string // [PublishBalanced], or a hash of the ports that the engine publishes; empty: none
	OneOff   bool   // made by run; Slot counts one-offs then

	// What other tools like to know.
	WorkingDir  string
	ConfigFiles []string
	EnvFiles    []string
	DependsOn   []string // service:condition:restart, as Compose writes it
	Version     string   // of the program that created it
	ImageID     string
}

// Labels returns the labels that carry the identity: Berth's own and those that
// Docker Compose writes, so that tools made for Compose show the stack.
func (i Identity) Labels() map[string]string {
	m := map[string]string{
		LabelSchema:   Schema,
		LabelOwner:    i.Owner,
		LabelStack:    i.Stack,
		LabelService:  i.Service,
		LabelSlot:     strconv.Itoa(i.Slot),
		LabelRevision: i.Revision,

		LabelComposeProject: i.Stack,
		LabelComposeService: i.Service,
		LabelComposeNumber:  strconv.Itoa(i.Slot),
		LabelComposeHash:    i.Revision,
		LabelComposeOneOff:  "False",
		LabelComposeDepends: strings.Join(i.DependsOn, ","),
		LabelComposeDir:     i.WorkingDir,
		LabelComposeFiles:   strings.Join(i.ConfigFiles, ","),
		LabelComposeVersion: i.Version,
		LabelComposeImage:   i.ImageID,
	}
	if i.OneOff {
		m[LabelOneOff] = "true"
		m[LabelComposeOneOff] = "True"
	}
	if i.Node != "" {
		m[LabelNode] = i.Node
	}
	if i.Publish != "" {
		m[LabelPublish] = i.Publish
	}
	if len(i.EnvFiles) > 0 {
		m[LabelComposeEnvFiles] = strings.Join(i.EnvFiles, ",")
	}
	return m
}

// ParseIdentity reads an identity back from labels. It fails on labels that
// are not Berth's, are of another schema, or are damaged; the error says which.
func ParseIdentity(labels map[string]string) (Identity, error) {
	switch schema, ok := labels[LabelSchema]; {
	case !ok:
		return Identity{}, fmt.Errorf("label %s is missing: not created by Berth", LabelSchema)
	case schema != Schema:
		return Identity{}, fmt.Errorf("label %s=%q: this version of Berth knows schema %s", LabelSchema, schema, Schema)
	}
	slot, err := strconv.Atoi(labels[LabelSlot])
	if err != nil || slot < 1 {
		return Identity{}, fmt.Errorf("label %s=%q is not a slot number", LabelSlot, labels[LabelSlot])
	}
	i := Identity{
		Owner:       labels[LabelOwner],
		Stack:       labels[LabelStack],
		Service:     labels[LabelService],
		Slot:        slot,
		Revision:    labels[LabelRevision],
		Node:        labels[LabelNode],
		Publish:     labels[LabelPublish],
		OneOff:      labels[LabelOneOff] == "true",
		WorkingDir:  labels[LabelComposeDir],
		ConfigFiles: splitList(labels[LabelComposeFiles]),
		EnvFiles:    splitList(labels[LabelComposeEnvFiles]),
		DependsOn:   splitList(labels[LabelComposeDepends]),
		Version:     labels[LabelComposeVersion],
		ImageID:     labels[LabelComposeImage],
	}
	if i.Stack == "" || i.Service == "" {
		return Identity{}, fmt.Errorf("labels %s and %s must not be empty", LabelStack, LabelService)
	}
	return i, nil
}

func splitList(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// Same reports whether two identities name the same replica in the same
// revision, made by the same installation: the condition for adopting a
// container that holds the wanted name.
func (i Identity) Same(j Identity) bool {
	return i.Owner == j.Owner && i.Stack == j.Stack && i.Service == j.Service && i.Slot == j.Slot &&
		i.Revision == j.Revision && i.OneOff == j.OneOff
}

// HelperLabels returns the labels of a container that works for Berth itself. It
// embodies no replica, so it carries no schema.
func HelperLabels(owner string) map[string]string {
	return map[string]string{LabelHelper: "true", LabelOwner: owner}
}

// ContainerName is the name Compose gives a replica's container:
// <stack>-<service>-<slot>.
func ContainerName(stack, service string, slot int) string {
	return stack + "-" + service + "-" + strconv.Itoa(slot)
}

// FileVolumeLabels returns the labels of a volume that an engine makes to hold a
// container's files, from that container's own labels.
func FileVolumeLabels(container map[string]string) map[string]string {
	m := map[string]string{LabelFiles: "true"}
	for _, key := range []string{LabelSchema, LabelOwner, LabelStack, LabelComposeProject} {
		if val, ok := container[key]; ok {
			m[key] = val
		}
	}
	return m
}

// ObjectLabels returns the labels of a network or volume of a stack. kind is
// [LabelComposeNetwork] or [LabelComposeVolume], key its key in the Compose file.
func ObjectLabels(owner, stack, kind, key, revision, version string) map[string]string {
	return map[string]string{
		LabelSchema:         Schema,
		LabelOwner:          owner,
		LabelStack:          stack,
		LabelRevision:       revision,
		LabelComposeProject: stack,
		kind:                key,
		LabelComposeHash:    revision,
		LabelComposeVersion: version,
	}
}
