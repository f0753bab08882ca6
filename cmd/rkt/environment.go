package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rkt/fetch"
	"rkt/image"
	"rkt/image/rootfs"
	"rkt/stage0"
	"rkt/stage0/pod"
	"rkt/stage0/settings"
)

// Default folders.
const (
	defaultDataDir      = "/var/lib/rkt"
	defaultRunDir       = "/run/rkt"
	defaultSystemConfig = "/usr/lib/rkt"
	defaultLocalConfig  = "/etc/rkt"
)

// environment is what the verbs share: the streams, the persistent flags and
// the stores, which are opened when a verb first asks for them.
type environment struct {
	stdin  *os.File
	stdout io.Writer
	stderr io.Writer
	log    *logrus.Logger
	// catchSignals makes SIGINT and SIGTERM cancel the context from now on. Before
	// that they end rkt, which loses nothing: the next command finds out. Verbs
	// that become a stage1 do without it, as it costs 0.1 ms.
	catchSignals func()
	// lines are the commands with the grammar of parseCommandLine, and the flags
	// of their pods.
	lines map[*cobra.Command]func(*pflag.FlagSet)

	debug        bool
	dataDir      string
	runDir       string
	systemConfig string
	localConfig  string
	userConfig   string
	given        map[string]bool // the flags of the folders, if they were given
	insecure     insecureOptions
	confine      bool // demand that rkt-fetch is confined fully
	driver       string
	readOnly     []string
	platform     platformOption // of the images that are fetched; not every verb has the flag

	handover *stage0.Handover // taken by main
	caught   chan os.Signal   // the signal that has ended the work of rkt

	begin, last time.Time // of this process, and of the last step told

	ready  bool
	config *settings.Settings // since setUp
	store  *image.Store
	mounts *rootfs.Layers
	dir    *pod.Dir
}

func newEnvironment(stdin, stdout, stderr *os.File) *environment {
	log := logrus.New()
	log.Out = stderr
	log.Formatter = &logrus.TextFormatter{DisableTimestamp: true}
	now := time.Now()
	return &environment{stdin: stdin, stdout: stdout, stderr: stderr, log: log, catchSignals: func() {}, caught: make(chan os.Signal, 1), given: make(map[string]bool), begin: now, last: now, lines: make(map[*cobra.Command]func(*pflag.FlagSet))}
}

// flags adds the flags that every verb has.
func (e *environment) flags(fs *pflag.FlagSet) {
	fs.BoolVar(&e.debug, "debug", false, "tell the steps and how long they take, on stderr")
	e.dataDir, e.runDir = defaultDataDir, defaultRunDir
	fs.Var(&givenFlag{&e.dataDir, "dir", e.given}, "dir", "folder of images and pods")
	fs.Var(&givenFlag{&e.runDir, "run-dir", e.given}, "run-dir", "folder of what does not outlive a boot")
	fs.StringVar(&e.systemConfig, "system-config", defaultSystemConfig, "folder of the vendor's configuration")
	fs.StringVar(&e.localConfig, "local-config", defaultLocalConfig, "folder of the local configuration")
	fs.StringVar(&e.userConfig, "user-config", "", "further folder of configuration, which wins over the others")
	fs.StringVar(&e.driver, "driver", "", "how layers are mounted: erofs, erofs-loop or dir; default is what the store can do")
	fs.StringArrayVar(&e.readOnly, "read-only-store", nil, "further data folder whose images can be run; may be given several times")
	fs.BoolVar(&e.confine, "require-confinement", false, "refuse to read images where rkt-fetch cannot be confined fully; rkt version --verbose tells")
	fs.Var(&e.insecure, "insecure-options", "comma-separated security features to do without: image, http, tls")
}

// setUp makes the values of the persistent flags usable. Whatever touches the
// disk gets there through a function below that calls it.
func (e *environment) setUp() error {
	if e.ready {
		return nil
	}
	if e.debug {
		e.log.SetLevel(logrus.DebugLevel)
	}
	for _, dir := range []*string{&e.dataDir, &e.runDir, &e.systemConfig, &e.localConfig, &e.userConfig} {
		if *dir == "" {
			continue
		}
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return fmt.Errorf("make %q absolute: %w", *dir, err)
		}
		*dir = abs
	}
	if err := e.configure(); err != nil {
		return err
	}
	e.ready = true
	return nil
}

// step tells with --debug that something is done, and how long it took.
func (e *environment) step(text string) {
	if !e.debug {
		return
	}
	now := time.Now()
	e.log.WithField("took", milliseconds(now.Sub(e.last))).WithField("since-start", milliseconds(now.Sub(e.begin))).Debug(text)
	e.last = now
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.2fms", float64(d.Microseconds())/1000)
}

// images opens the image store, once.
func (e *environment) images() (*image.Store, error) {
	if e.store != nil {
		return e.store, nil
	}
	if err := e.setUp(); err != nil {
		return nil, err
	}
	store, err := image.OpenStore(e.dataDir, e.readOnlyStores())
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", e.dataDir, err)
	}
	e.store = store
	e.step("opened the store")
	return store, nil
}

// readOnlyStores are those the user named, those of the configuration, and the one
// that the vendor brings along, if there is one.
func (e *environment) readOnlyStores() []string {
	dirs := e.readOnly
	for _, s := range e.config.Stores {
		dirs = append(dirs, s.Path)
	}
	dir := filepath.Join(e.systemConfig, "store")
	if _, err := os.Lstat(dir); err != nil || slices.Contains(dirs, dir) {
		return dirs
	}
	return append(dirs, dir)
}

// layers opens the layers of the image store, once.
func (e *environment) layers() (*rootfs.Layers, error) {
	if e.mounts != nil {
		return e.mounts, nil
	}
	store, err := e.images()
	if err != nil {
		return nil, err
	}
	program, err := e.fetchProgram()
	if err != nil {
		return nil, err
	}
	layers, err := rootfs.Open(rootfs.Options{
		Stores: store, RunDir: e.runDir, Driver: e.driver, Verify: e.verify(), VerifyStore: e.verifyStores(), Hashing: e.hashing(), Tars: fetch.Tars{Program: program, Demand: e.confine},
	})
	if err != nil {
		return nil, err
	}
	e.mounts = layers
	e.step("found the driver of layers, " + layers.Driver())
	return layers, nil
}

// pods opens the folder of pods, once.
func (e *environment) pods() (*pod.Dir, error) {
	if e.dir != nil {
		return e.dir, nil
	}
	if err := e.setUp(); err != nil {
		return nil, err
	}
	if err := image.CheckVersion(e.dataDir); err != nil {
		return nil, fmt.Errorf("open store %s: %w", e.dataDir, err)
	}
	dir, err := pod.Open(e.dataDir)
	if err != nil {
		return nil, err
	}
	e.dir = dir
	return dir, nil
}

// podEnv is what the functions of stage0 work on that need no images.
func (e *environment) podEnv() (*stage0.Env, error) {
	pods, err := e.pods()
	if err != nil {
		return nil, err
	}
	dirs, err := e.stage1Dirs()
	if err != nil {
		return nil, err
	}
	return &stage0.Env{Pods: pods, RunDir: e.runDir, Stage1Dirs: dirs, Networks: e.networks(), Log: e.log, Handover: e.handover, Trace: e.step}, nil
}

// fullEnv is podEnv with the image store and its layers.
func (e *environment) fullEnv() (*stage0.Env, error) {
	env, err := e.podEnv()
	if err != nil {
		return nil, err
	}
	if env.Images, err = e.images(); err != nil {
		return nil, err
	}
	env.Layers, err = e.layers()
	return env, err
}

// fetchProgram is the path of rkt-fetch.
func (e *environment) fetchProgram() (string, error) { return e.companion("rkt-fetch") }

// companion is the path of a program that belongs to rkt.
func (e *environment) companion(name string) (string, error) {
	paths, err := e.installed(name)
	if err != nil {
		return "", err
	}
	for _, path := range paths {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is in none of %q", name, paths)
}

// installed are the places of what belongs to rkt: beside its own program, as
// built, or in libexec, as installed.
func (e *environment) installed(name string) ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find own program: %w", err)
	}
	dir := filepath.Dir(self)
	return []string{filepath.Join(dir, name), filepath.Join(dir, "..", "libexec", "rkt", name)}, nil
}

// requireRoot refuses to go on for anybody but root.
func requireRoot(verb string) error {
	if os.Geteuid() == 0 {
		return nil
	}
	return withHint(fmt.Errorf("%s needs root", verb), "sudo rkt %s ...", verb)
}

// insecureOptions is the value of --insecure-options.
type insecureOptions struct {
	image bool // skip the trust policy
	http  bool // allow registries without TLS
	tls   bool // do not verify certificates of registries
}

// String implements pflag.Value.
func (o *insecureOptions) String() string { return strings.Join(o.list(), ",") }

// Type implements pflag.Value.
func (o *insecureOptions) Type() string { return "list" }

// Set implements pflag.Value.
func (o *insecureOptions) Set(s string) error {
	for name := range strings.SplitSeq(s, ",") {
		switch name {
		case "image":
			o.image = true
		case "http":
			o.http = true
		case "tls":
			o.tls = true
		case "none", "":
		default:
			return fmt.Errorf("unknown feature %q, known are image, http, tls", name)
		}
	}
	return nil
}

// list returns the features that are switched off, sorted.
func (o *insecureOptions) list() []string {
	var names []string
	for name, on := range map[string]bool{"image": o.image, "http": o.http, "tls": o.tls} {
		if on {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
