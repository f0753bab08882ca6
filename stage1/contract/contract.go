// Package contract is everything that the two halves of rkt share: the files
// through which stage0 tells a stage1 what to do, and the files through which
// a stage1 tells what became of it.
//
// stage0 decides and writes; stage1 performs and reports. Neither imports any
// other package of the other half. The contract is plain data: numbers instead
// of names, ordered lists instead of sets with rules, absolute paths or fds.
// Loading is strict: an unknown field or version is an error, because a
// security setting that is not understood must not be dropped.
//
// Start with Pod (the sandbox), App (one application in it) and Host (what this
// host lent to this one run). docs/stage1-contract.md is the prose.
package contract

// Version is the version of all files of the contract. A stage1 accepts
// Version and Version-1. Raise it with any change of meaning or field.
const Version = 2

// Names of files and folders, relative to the pod directory, which is the
// working directory of every stage1 entrypoint.
const (
	PodFile  = "pod.json"  // Pod; never changes after the pod is prepared
	HostFile = "host.json" // Host; written for each run, before stage1 starts
	AppsDir  = "apps"      // one folder per app, named by the app

	// In the folder of an app.
	AppFile     = "app.json"    // App
	SpecFile    = "config.json" // runtime-spec Spec, without hooks and annotations
	SeccompFile = "seccomp.bpf" // struct sock_filter[]; absent = no filter
	UpperDir    = "fs/upper"    // writable layer; owners on disk are owners inside
	WorkDir     = "fs/work"     // overlayfs work folder
	StartedFile = "started"     // Started; renamed into place before the app may exec
	ExitFile    = "exit"        // Exit; renamed into place when the app is over
	LimitsFile  = "limits"      // Limits; changed by `rkt update`

	// ReadyFile (Ready) appears when every app of the pod has been started and, with
	// NotifyApp, the app has said that it is ready.
	ReadyFile = "ready"
	// SocketFile is the supervisor's socket in Host.RunDir: SOCK_SEQPACKET, mode
	// 0600, one Request per connection, answered by one Reply.
	SocketFile = "control"
	// GarbageDir is the sibling of the folder that holds the pod directory. With
	// Pod.Remove the pod directory is renamed into it before it is removed, so
	// that what a crash leaves behind is recognised.
	GarbageDir = "garbage"
	// MountOwn is the type of a mount in config.json that is a folder of the app's
	// own root, made where it is missing: what is written there goes where all
	// goes that the app writes, but also when the root is read-only.
	MountOwn = "own"
	// VolumesDir holds the empty volumes, one folder each.
	VolumesDir = "volumes"
	// LockFile is the file whose first byte is locked (F_OFD_SETLK) while the pod
	// is prepared, runs or is removed: LockFD.
	LockFile = "lock"
	// NotifyFile is the socket in the folder of an app with App.Notify, on which
	// the supervisor hears what the app tells of itself (sd_notify(3)).
	NotifyFile = "notify"
	// LogFile is where the output of an app may go, in its folder, and in the pod
	// directory that of a supervisor without a caller.
	LogFile = "log"
	// EtcDir holds the files that rkt makes for the pod: hosts, resolv.conf, hostname.
	EtcDir = "etc"
	// ManifestFile describes a stage1, in its own folder.
	ManifestFile = "manifest.json"
)

// LockFD is the file descriptor that says that the pod is running: as long as
// any copy of it is open, the pod is locked (an open file description lock on a
// file in the pod directory). A stage1 keeps it open until nothing of the pod is
// alive and never passes it to an app.
const LockFD = 3

// Where an app finds what comes from the service manager, as all container
// managers have it (systemd's "container interface").
const (
	NotifyPath      = "/run/host/notify"
	CredentialsPath = "/run/host/credentials"
)

// Entrypoints of a stage1, named in its manifest.
const (
	EntryRun   = "run"   // exec'd by stage0; becomes the supervisor
	EntryEnter = "enter" // exec'd; arguments: APP -- ARGV...; EnterRequest on fd 3
	EntryStop  = "stop"  // run by stage0; optional argument: --force
	EntryGC    = "gc"    // run by stage0 on a pod that is dead; idempotent
	// EntryExplain prints the starts of all apps without running anything.
	EntryExplain = "explain"
)

// Exit codes of `rkt run`, `rkt enter` and of a stage1 (the field's convention).
const (
	ExitFailure       = 125 // rkt failed; the app did not run
	ExitNotExecutable = 126 // the command was found and could not be executed
	ExitNotFound      = 127 // the command was not found
	ExitSignal        = 128 // plus the number of the signal that ended the app
)

// Pod is pod.json: the sandbox that the apps of a pod share.
type Pod struct {
	Version int    `json:"version"`
	UUID    string `json:"uuid"`
	// Name is unique among pods that are not exited; empty = none.
	Name string `json:"name,omitempty"`
	// CreatedNanos is the time of preparation, nanoseconds since the epoch.
	CreatedNanos int64 `json:"createdNanos"`
	// Stage1 is the flavour the pod keeps for its life.
	Stage1 Stage1 `json:"stage1"`

	Hostname string  `json:"hostname,omitempty"`
	User     Sharing `json:"user"` // private = an id range of its own
	Net      Net     `json:"net"`
	IPC      Sharing `json:"ipc"`
	UTS      Sharing `json:"uts"`

	// Apps are the names of the apps in the order of their start.
	Apps []string `json:"apps"`
	// Remove asks stage1 to remove the pod directory when the pod is over (--rm).
	Remove bool `json:"remove,omitempty"`
	// Notify says who tells the service manager that the pod is ready; "" = pod.
	Notify NotifyMode `json:"notify,omitempty"`
	// Sysctls are written in the namespaces of the pod, before any app starts.
	Sysctls []Sysctl `json:"sysctls,omitempty"`
	// Labels and Annotations are for display; stage1 ignores them.
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	// Weakenings are the options that lessen isolation, as the user gave them.
	// For display; stage1 ignores them.
	Weakenings []string `json:"weakenings,omitempty"`
}

// Stage1 names the stage1 of a pod.
type Stage1 struct {
	Name string `json:"name"` // "native", "fly", ...
	Dir  string `json:"dir"`  // absolute; holds manifest.json
}

// Sysctl is a parameter of the kernel that a network or ipc namespace has.
type Sysctl struct {
	Path  string `json:"path"` // below /proc/sys
	Value string `json:"value"`
}

// Sharing says whether the pod has a namespace of its own.
type Sharing string

// The values of Sharing.
const (
	Private Sharing = "private"
	Shared  Sharing = "host"
)

// NotifyMode is one of the Notify* constants.
type NotifyMode string

// The values of NotifyMode.
const (
	NotifyPod NotifyMode = "pod" // the supervisor, when all apps have been started
	NotifyApp NotifyMode = "app" // the app with App.Notify, by READY=1; what else it tells is passed on too
	NotifyNo  NotifyMode = "no"  // nobody; nothing at all is told
)

// App is apps/<name>/app.json: what the runtime-spec has no words for. The rest
// is in config.json beside it. Both are written once, when the app is added.
type App struct {
	Version int    `json:"version"`
	Name    string `json:"name"`
	// Image is for display and for keeping its layers; stage1 ignores it.
	Image Image `json:"image"`
	// Labels and Annotations are the operator's, for display; stage1 ignores them.
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	// Layers are the diff IDs (64 hex digits) of the root, topmost first.
	Layers []string `json:"layers"`
	// Volatile lets the writable layer skip syncing: it does not outlive the pod.
	Volatile bool `json:"volatile,omitempty"`

	// Candidates are the paths tried by execve, in order: one for a command
	// with a slash, one per PATH entry else. argv[0] stays as the user gave it.
	Candidates []string `json:"candidates"`

	PID     PID     `json:"pid"`
	Init    bool    `json:"init,omitempty"` // run a reaper as pid 1, the app below it
	Restart Restart `json:"restart"`
	// StopSignal is sent first; after StopGraceMillis SIGKILL follows.
	StopSignal      int   `json:"stopSignal"`
	StopGraceMillis int64 `json:"stopGraceMillis"`

	Stdin  Stream `json:"stdin"`
	Stdout Stream `json:"stdout"`
	Stderr Stream `json:"stderr"`

	// Notify is set for the app of NotifyApp. config.json mounts its NotifyFile at
	// NotifyPath.
	Notify bool `json:"notify,omitempty"`
	// Sockets and Credentials are the names of those in Host.Unit that the app
	// gets; Every stands for all.
	Sockets     []string `json:"sockets,omitempty"`
	Credentials []string `json:"credentials,omitempty"`
}

// Every, as the only element of a list of names, stands for all that there are.
const Every = "*"

// Image says which image an app came from.
type Image struct {
	Reference string            `json:"reference"` // as the user gave it, normalised
	ID        string            `json:"id"`        // sha256:<hex> of the config
	Manifest  string            `json:"manifest"`  // sha256:<hex>
	Labels    map[string]string `json:"labels,omitempty"`
	Trust     *Trust            `json:"trust,omitempty"`
}

// Trust says why an image was let in when the pod was prepared.
type Trust struct {
	Tier   string `json:"tier,omitempty"`   // "signed", "accepted", "local" or "insecure"
	Signer string `json:"signer,omitempty"` // a key, or a subject and its issuer
	Rule   string `json:"rule,omitempty"`   // the prefix of the rule
	Policy string `json:"policy,omitempty"` // the hash of the policy
}

// PID says which pid namespace an app lives in: "own", "host", or "pod".
type PID string

// The values of PID.
const (
	PIDOwn  PID = "own"
	PIDPod  PID = "pod"
	PIDHost PID = "host"
)

// Restart is what happens when an app ends.
type Restart struct {
	Policy RestartPolicy `json:"policy"`
	// Max is the number of restarts, 0 = no limit.
	Max int `json:"max,omitempty"`
}

// RestartPolicy is one of the Restart* constants.
type RestartPolicy string

// The restart policies.
const (
	RestartNo        RestartPolicy = "no"
	RestartOnFailure RestartPolicy = "on-failure"
	RestartAlways    RestartPolicy = "always"
)

// Stream is where one of the standard streams of an app leads.
type Stream struct {
	Kind StreamKind `json:"kind"`
	// For StreamFile.
	Path   string `json:"path,omitempty"`   // absolute, on the host
	Format string `json:"format,omitempty"` // "raw" or "cri"
	Max    int64  `json:"max,omitempty"`    // bytes before rotation, 0 = no limit
}

// StreamKind is one of the Stream* constants.
type StreamKind string

// The kinds of streams.
const (
	StreamInherit StreamKind = "inherit" // the caller's own
	StreamNull    StreamKind = "null"
	StreamPTY     StreamKind = "pty" // a terminal in the pod, relayed to the caller's
	StreamFile    StreamKind = "file"
)

// Host is host.json: what this host lent to this run of the pod. Nothing in it
// outlives a reboot. Whatever it names is given back by the gc entrypoint and,
// when the pod ends in order, by the supervisor.
type Host struct {
	Version int    `json:"version"`
	BootID  string `json:"bootID"`
	// RunDir is the pod's folder under /run/rkt (mode 0700), for sockets.
	RunDir string `json:"runDir"`
	// IDs is the id range of the pod's user namespace; empty with the host's.
	// Maps are the same for users and groups.
	IDs []IDMap `json:"ids,omitempty"`
	// Cgroup is where the apps' cgroups are.
	Cgroup Cgroup `json:"cgroup"`
	// Layers maps a diff ID (64 hex digits) to where it is mounted.
	Layers map[string]Mounted `json:"layers"`
	// Release are files and empty folders to unlink once the pod is over, such as
	// the claim on the id range. Absolute paths; each belongs to this pod alone.
	Release []string `json:"release,omitempty"`
	// Terminal is true when the caller's stdin is a terminal.
	Terminal bool `json:"terminal,omitempty"`
	// Program is the stage1 that performs this run, for stage0: enter and stop find
	// it again when an upgrade has put another in its place. A stage1 ignores it.
	Program *Program `json:"program,omitempty"`
	// Unit is what a service manager has handed to the process that was rkt; nil
	// = nothing.
	Unit *Unit `json:"unit,omitempty"`
	// Journal is where the output of the apps goes instead of those of the caller's
	// streams that lead to the journal of the host; nil = none does.
	Journal *Journal `json:"journal,omitempty"`
	// Announce is a command that is executed, with the pid of the app as a further
	// argument, each time the first app of the pod has been started; nil = none.
	// Nobody waits for it.
	Announce []string `json:"announce,omitempty"`
	// Integrity is when the layers are compared with their digests, for display: a
	// tier of rkt/image/rootfs. A stage1 ignores it.
	Integrity string `json:"integrity,omitempty"`
	// Network is how the pod gets its networks; nil = it has none to get.
	Network *HostNetwork `json:"network,omitempty"`
}

// Journal is a journal that takes entries with fields (systemd-journald(8)). The
// entries of an app have the fields RKT_POD, RKT_POD_NAME, RKT_APP, RKT_IMAGE,
// RKT_IMAGE_ID and RKT_STREAM.
type Journal struct {
	Socket string `json:"socket"` // absolute path
	Stdout bool   `json:"stdout,omitempty"`
	Stderr bool   `json:"stderr,omitempty"`
}

// Program is the program of a stage1 and how its entrypoints are called.
type Program struct {
	Device      uint64              `json:"device"`
	Inode       uint64              `json:"inode"`
	Entrypoints map[string][]string `json:"entrypoints"` // as in Manifest
}

// Unit is what a service manager such as systemd hands to the process that it
// starts.
type Unit struct {
	// Main is true when the process is the main process of a unit: it ends as the
	// app did, by the same signal if it was one, instead of with 128+n.
	Main bool `json:"main,omitempty"`
	// NotifySocket is where the manager listens: an absolute path, or an abstract
	// name after "@"; "" = it does not.
	NotifySocket string `json:"notifySocket,omitempty"`
	// WatchdogMicros is the time within which the manager wants to hear WATCHDOG=1
	// again; 0 = it does not.
	WatchdogMicros uint64 `json:"watchdogMicros,omitempty"`
	// Sockets are open in this process, in the order in which the manager passed
	// them. None is LockFD.
	Sockets []Socket `json:"sockets,omitempty"`
	// Credentials is an absolute folder with one file for each; "" = there are none.
	Credentials string `json:"credentials,omitempty"`
}

// Socket is an open file that a service manager has passed. Names need not be
// unique.
type Socket struct {
	FD   int    `json:"fd"`
	Name string `json:"name"`
}

// IDMap is one line of /proc/PID/uid_map and gid_map.
type IDMap struct {
	Inside  uint32 `json:"inside"`
	Outside uint32 `json:"outside"`
	Count   uint32 `json:"count"`
}

// Mounted says where the host can clone a mount from: Path in the mount
// namespace that is bound to the file Namespace ("" = the caller's own).
type Mounted struct {
	Namespace string `json:"namespace,omitempty"`
	Path      string `json:"path"`
}

// Cgroup is the pod's place in the cgroup hierarchies. An app's cgroup is the
// folder "app.<name>" in each of them, made with its limits by stage0; its
// processes live in "app.<name>/main" on v2 and in "app.<name>" itself on v1.
type Cgroup struct {
	// V2 is the pod's folder in the unified hierarchy; "" = there is none. On a
	// hybrid host it carries no controllers and serves for tracking and killing.
	V2 string `json:"v2,omitempty"`
	// V1 are the pod's folders in v1 hierarchies by controller ("memory", "pids").
	V1 map[string]string `json:"v1,omitempty"`
	// Mark, if it is not empty, says that these folders are not the pod's own but
	// those of a unit that was delegated to it: of what is in them, the pod's are
	// the app folders whose extended attribute MarkAttr is Mark. A later pod in the
	// same unit has others.
	Mark string `json:"mark,omitempty"`
}

// MarkAttr is the extended attribute of cgroups that Cgroup.Mark is about.
const MarkAttr = "user.rkt.pod"

// Started is apps/<name>/started. The pair of PID and StartTicks cannot be
// reused within a boot.
type Started struct {
	PID        int    `json:"pid"`        // on the host
	StartTicks uint64 `json:"startTicks"` // field 22 of /proc/PID/stat
	BootID     string `json:"bootID"`
	Nanos      int64  `json:"nanos"` // since the epoch
	Restarts   int    `json:"restarts"`
}

// Ready is the file ready. The pair of PID and StartTicks names the supervisor.
type Ready struct {
	PID        int    `json:"pid"`
	StartTicks uint64 `json:"startTicks"`
	BootID     string `json:"bootID"`
	Nanos      int64  `json:"nanos"` // since the epoch
}

// Request is what a supervisor is asked over its socket, as JSON of at most
// MaxRequest bytes. A field that the operation does not use is absent.
type Request struct {
	Version int       `json:"version"`
	Op      Operation `json:"op"`
}

// Reply answers a Request.
type Reply struct {
	Version int    `json:"version"`
	Error   string `json:"error,omitempty"` // why the request was refused
}

// MaxRequest bounds a Request and a Reply, in bytes.
const MaxRequest = 4096

// Operation is one of the Op* constants.
type Operation string

// The operations that a supervisor understands. The reply to either means that
// the pod is on its way to its end, not that it has ended.
const (
	OpStop Operation = "stop" // stop signals, then SIGKILL after each app's grace
	OpKill Operation = "kill" // SIGKILL at once
)

// Exit is apps/<name>/exit.
type Exit struct {
	Code      int    `json:"code"`             // as a shell would see it: 0-255
	Signal    int    `json:"signal,omitempty"` // that ended it, 0 = none
	OOM       bool   `json:"oom,omitempty"`    // the kernel killed for memory
	Error     string `json:"error,omitempty"`  // it could not be started: why
	Nanos     int64  `json:"nanos"`            // since the epoch
	Restarts  int    `json:"restarts"`
	Discarded bool   `json:"discarded,omitempty"` // another app's failure ended the pod
}

// Limits is apps/<name>/limits: the resources as last set.
type Limits struct {
	Version     int   `json:"version"`
	MemoryBytes int64 `json:"memoryBytes,omitempty"` // 0 = none
	CPUMillis   int64 `json:"cpuMillis,omitempty"`   // of one CPU per second, 0 = none
	CPUShares   int64 `json:"cpuShares,omitempty"`   // v1 scale 2..262144, 0 = default
	Pids        int64 `json:"pids,omitempty"`        // 0 = none
}

// Manifest is manifest.json in the folder of a stage1.
type Manifest struct {
	Name     string `json:"name"`
	Contract int    `json:"contract"` // the newest version it understands
	// Entrypoints maps an Entry* constant to an argv whose first element is
	// relative to the folder. A missing one is a feature it does not have.
	Entrypoints map[string][]string `json:"entrypoints"`
	// Features it supports beyond one app in host namespaces: FeatureX.
	Features []string `json:"features,omitempty"`
}

// Features of a stage1. stage0 refuses a pod that needs one that is missing.
const (
	FeaturePods       = "pods"       // several apps
	FeatureUserNS     = "user"       // user: private
	FeatureNamespaces = "namespaces" // private net, ipc, uts, pid
	FeatureCgroups    = "cgroups"
	FeatureSeccomp    = "seccomp"
	FeatureCaps       = "capabilities"
	FeatureTerminal   = "terminal"
	FeatureVolumes    = "volumes"
	FeatureUnit       = "unit"     // Host.Unit
	FeatureNetworks   = "networks" // Host.Network and Net.Ports
)

// EnterRequest is what the enter entrypoint is asked to run in an app.
type EnterRequest struct {
	Version    int      `json:"version"`
	App        string   `json:"app"`
	Args       []string `json:"args"`
	Candidates []string `json:"candidates"`
	Env        []string `json:"env"`
	Cwd        string   `json:"cwd"`
	UID        uint32   `json:"uid"`
	GID        uint32   `json:"gid"`
	Groups     []uint32 `json:"groups,omitempty"`
	Terminal   bool     `json:"terminal,omitempty"`
}
