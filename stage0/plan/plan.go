// Package plan decides what a pod is: it turns what the operator asked for, the
// images and a few facts of the host into the files of the contract. It is pure:
// it opens nothing, asks nothing, and gives the same files for the same input.
//
// Whatever a pod is allowed to do is the operator's word or a default of this
// package. Of an image only the fields of image.Config are looked at, and each
// has one meaning: what runs, with which environment, as whom, where, which
// signal stops it, which ports it may want and where it wants empty volumes.
//
// Start with Compile; its body is the list of decisions.
package plan

import (
	"errors"
	"fmt"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"rkt/cas"
	"rkt/image"
	"rkt/stage1/contract"
)

// Spec is what the operator asks for. The zero value of a field is its default.
type Spec struct {
	UUID         string
	Name         string // checked by whoever claims it
	CreatedNanos int64
	Stage1       contract.Stage1
	// Features are those of the stage1's manifest.
	Features []string

	Hostname string
	// Net is how the pod is connected; Networks are those of contract.NetJoined.
	Net      contract.NetMode
	Networks []contract.Network
	Publish  []Publish
	// DNS, Hosts and CopyHosts are contract.Net's.
	DNS       *contract.DNS
	Hosts     []contract.HostEntry
	CopyHosts bool
	User      contract.Sharing
	// Remove lets the pod go without a trace when it is over.
	Remove bool
	// Notify says who tells the service manager that the pod is ready: "pod", the
	// default, "app" for the only app, "app:NAME", or "no".
	Notify string
	// Interactive gives the one app of the pod a terminal.
	Interactive bool
	Volumes     []Volume
	// Sysctls are kernel parameters of the pod's own namespaces.
	Sysctls []Sysctl
	// Labels and Annotations are for people and managers.
	Labels, Annotations map[string]string
	// LogDir, if not empty, is the pod's absolute directory while it runs: the output
	// of the apps goes to files in there, and they have no input.
	LogDir string
	// Environment is for all apps: NAME=VALUE.
	Environment []string
	// Weakenings are those of the options used before the plan, as given.
	Weakenings []string

	Apps []App
}

// App is what the operator asks for one app.
type App struct {
	Image *image.Image
	// Reference is how the operator called the image, in its canonical form.
	Reference string
	// Layers are those of the image that its root is made of, topmost first.
	Layers []cas.Digest
	// Accounts are the users and groups that the image has.
	Accounts Accounts

	Name string
	// Exec replaces the image's entrypoint and its default arguments.
	Exec string
	// Args replace the image's default arguments.
	Args        []string
	User        string // user[:group], names or numbers
	Group       string
	Groups      []uint32 // supplementary
	MergeGroups bool     // add those that the image's group file gives the user
	WorkingDir  string
	Environment []string

	ReadOnlyRoot bool
	Tmpfs        []Tmpfs
	Mounts       []Mount

	Limits contract.Limits
	// Ulimits replace limits that rkt would set or inherit.
	Ulimits []Ulimit
	// Umask replaces 022.
	Umask *uint32
	// ShmBytes is the size of /dev/shm, 0 = 64 MiB.
	ShmBytes int64
	// Labels and Annotations are for people and managers.
	Labels, Annotations map[string]string
	// CapsAdd and CapsDrop change the default set; "all" in them stands for all.
	CapsAdd, CapsDrop []string
	// CapsRetain, if not nil, is the whole set of capabilities; "default" in it
	// stands for the default set. CapsRemove takes away from the default set.
	CapsRetain               []string
	CapsRemove               []string
	Seccomp                  string // "", SeccompDefault or SeccompUnconfined
	AllowPrivilegeEscalation bool

	Init        bool
	Restart     contract.Restart
	StopSignal  string
	StopTimeout *time.Duration

	Stdin, Stdout, Stderr contract.Stream

	// Sockets and Credentials are names of what the app gets of a service manager,
	// or contract.Every; nil = all, for the only app of a pod.
	Sockets, Credentials []string
}

// The values of App.Seccomp.
const (
	SeccompDefault    = "default"
	SeccompUnconfined = "unconfined"
)

// Facts are what a plan depends on of the host that it is made for.
type Facts struct {
	// MaxOpenFiles is the hard limit on open files of this process.
	MaxOpenFiles uint64
	// PidsController says whether a limit on processes can be set.
	PidsController bool
	// LowestPort is net.ipv4.ip_unprivileged_port_start; used with the host's network.
	LowestPort int
	// ThermalThrottle are folders of sysfs that tell of what other tenants do,
	// one per processor; used where the pod gets a sysfs.
	ThermalThrottle []string
	// Seccomp is the filter of the default profile.
	Seccomp []byte
}

// Files are the files of a prepared pod.
type Files struct {
	Pod  contract.Pod
	Apps []AppFiles
	// Volumes are the empty volumes, folders below contract.VolumesDir.
	Volumes []EmptyVolume
	// Notes are for the operator: what a default has decided that may surprise.
	Notes []string
}

// AppFiles are the files in the folder of one app.
type AppFiles struct {
	App     contract.App
	Spec    specs.Spec
	Limits  contract.Limits
	Seccomp []byte // nil = no filter
}

// Compile makes the files of a pod. An error names the option or the field of
// the image that it is about.
func Compile(spec Spec, facts Facts) (*Files, error) {
	c := &compiler{spec: spec, facts: facts, has: set(spec.Features)}
	for _, step := range []func() error{
		c.checkShape,
		c.checkFeatures,
		c.sandbox,
		c.networks,
		c.nameApps,
		c.unit,
		c.declareVolumes,
		c.apps,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return &c.files, nil
}

// compiler is one run of Compile.
type compiler struct {
	spec    Spec
	facts   Facts
	has     map[string]bool // features of the stage1
	names   []string        // of the apps
	volumes map[string]Volume
	speaker string            // the app that notifies the service manager, "" = none
	sockets map[string]string // the app that takes each
	files   Files
}

// checkShape refuses what no stage1 could run.
func (c *compiler) checkShape() error {
	if len(c.spec.Apps) == 0 {
		return fmt.Errorf("a pod needs at least one image")
	}
	if c.spec.Interactive && len(c.spec.Apps) > 1 {
		return fmt.Errorf("--interactive needs a pod of one app, this one has %d", len(c.spec.Apps))
	}
	return nil
}

// sandbox decides about what the apps share.
func (c *compiler) sandbox() error {
	p := &c.files.Pod
	*p = contract.Pod{
		Version: contract.Version, UUID: c.spec.UUID, Name: c.spec.Name, CreatedNanos: c.spec.CreatedNanos,
		Stage1: c.spec.Stage1, Remove: c.spec.Remove,
		User: contract.Private, IPC: contract.Private, UTS: contract.Private,
		Net: contract.Net{Mode: contract.NetNone},
	}
	p.Weakenings = append(p.Weakenings, c.spec.Weakenings...)
	if !c.has[contract.FeatureUserNS] || c.spec.User == contract.Shared {
		p.User = contract.Shared
	}
	if !c.has[contract.FeatureNamespaces] {
		p.IPC, p.UTS, p.Net.Mode = contract.Shared, contract.Shared, contract.NetHost
	}
	if c.spec.Net != "" {
		p.Net.Mode = c.spec.Net
	}
	if p.UTS == contract.Private {
		hostname, err := hostname(c.spec)
		if err != nil {
			return err
		}
		p.Hostname = hostname
	}
	if c.spec.User == contract.Shared {
		c.weaken("", "--private-users=no")
	}
	if c.spec.Net == contract.NetHost {
		c.weaken("", "--net=host")
	}
	p.Labels, p.Annotations = c.spec.Labels, c.spec.Annotations
	return errors.Join(c.sysctls(), checkLabels("--label", p.Labels), checkLabels("--annotation", p.Annotations))
}

// weaken records an option that lessens isolation.
func (c *compiler) weaken(app, option string) {
	if app != "" {
		option = app + ": " + option
	}
	c.files.Pod.Weakenings = append(c.files.Pod.Weakenings, option)
}

// apps makes the files of all apps.
func (c *compiler) apps() error {
	for i := range c.spec.Apps {
		a, err := c.app(&c.spec.Apps[i], c.names[i])
		if err != nil {
			return fmt.Errorf("app %q: %w", c.names[i], err)
		}
		c.files.Apps = append(c.files.Apps, *a)
	}
	c.files.Pod.Apps = c.names
	return nil
}

func set(words []string) map[string]bool {
	m := make(map[string]bool, len(words))
	for _, w := range words {
		m[w] = true
	}
	return m
}
