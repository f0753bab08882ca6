package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"
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

	debug        bool
	dataDir      string
	runDir       string
	systemConfig string
	localConfig  string
	insecure     insecureOptions
}

func newEnvironment(stdin, stdout, stderr *os.File) *environment {
	log := logrus.New()
	log.Out = stderr
	log.Formatter = &logrus.TextFormatter{DisableTimestamp: true}
	return &environment{stdin: stdin, stdout: stdout, stderr: stderr, log: log}
}

// flags adds the flags that every verb has.
func (e *environment) flags(fs *pflag.FlagSet) {
	fs.BoolVar(&e.debug, "debug", false, "tell what is done, on stderr")
	fs.StringVar(&e.dataDir, "dir", defaultDataDir, "folder of images and pods")
	fs.StringVar(&e.runDir, "run-dir", defaultRunDir, "folder of what does not outlive a boot")
	fs.StringVar(&e.systemConfig, "system-config", defaultSystemConfig, "folder of the vendor's configuration")
	fs.StringVar(&e.localConfig, "local-config", defaultLocalConfig, "folder of the local configuration")
	fs.Var(&e.insecure, "insecure-options", "comma-separated security features to do without: image, http, tls")
}

// setUp makes the values of the persistent flags usable. Each verb that touches
// the disk gets here through the function that opens what it needs.
func (e *environment) setUp() error {
	if e.debug {
		e.log.SetLevel(logrus.DebugLevel)
	}
	for _, dir := range []*string{&e.dataDir, &e.runDir, &e.systemConfig, &e.localConfig} {
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return fmt.Errorf("make %q absolute: %w", *dir, err)
		}
		*dir = abs
	}
	return nil
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
