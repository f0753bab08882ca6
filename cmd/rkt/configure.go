package main

import (
	"cmp"
	"fmt"
	"io"
	"path/filepath"

	"rkt/fetch"
	"rkt/image/rootfs"
	"rkt/internal/confdir"
	"rkt/stage0"
	"rkt/stage0/settings"
)

// givenFlag is a flag for a folder that knows whether it was given.
type givenFlag struct {
	to    *string
	name  string
	given map[string]bool
}

// String implements pflag.Value.
func (f *givenFlag) String() string { return *f.to }

// Type implements pflag.Value.
func (f *givenFlag) Type() string { return "string" }

// Set implements pflag.Value.
func (f *givenFlag) Set(s string) error {
	*f.to, f.given[f.name] = s, true
	return nil
}

// folders are those of the configuration, the one that wins last.
func (e *environment) folders() confdir.Folders {
	return confdir.Folders{e.systemConfig, e.localConfig, e.userConfig}
}

// configure reads the settings, and uses them where no flag was given.
func (e *environment) configure() error {
	config, err := settings.Load(e.folders())
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	e.config = config
	if !e.given["dir"] {
		e.dataDir = config.Data.Or(e.dataDir)
	}
	if !e.given["run-dir"] {
		e.runDir = config.Run.Or(e.runDir)
	}
	e.driver = cmp.Or(e.driver, config.Driver.Text)
	return nil
}

// verify is the tier of integrity of layers.
func (e *environment) verify() rootfs.Tier {
	return rootfs.Tier(e.config.Verify.Or(string(rootfs.Boot)))
}

// verifyStores are the tiers of the stores that have their own.
func (e *environment) verifyStores() map[string]rootfs.Tier {
	tiers := make(map[string]rootfs.Tier)
	for _, s := range e.config.Stores {
		if s.Verify != "" {
			tiers[filepath.Join(s.Path, "cas")] = s.Verify
		}
	}
	return tiers
}

// stage1Dirs are the folders with stage1s: those of the configuration, and those
// that rkt comes with.
func (e *environment) stage1Dirs() ([]string, error) {
	installed, err := e.installed("stage1")
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, dir := range e.config.Stage1Dirs {
		dirs = append(dirs, dir.Text)
	}
	return append(dirs, installed...), nil
}

// pullPolicy is the one of a flag, else the one of the configuration.
func (e *environment) pullPolicy(flag string) (fetch.Pull, error) {
	if err := e.setUp(); err != nil {
		return "", err
	}
	return fetch.ParsePull(cmp.Or(flag, e.config.PullPolicy.Or(string(fetch.PullNew))))
}

// stage1Name is the flavour that a flag names, else the one of the configuration.
func (e *environment) stage1Name(flag string) string {
	return cmp.Or(flag, e.config.Stage1.Or(stage0.DefaultStage1))
}

// hashing shows on a terminal how far the hashing of layers is; nil elsewhere.
func (e *environment) hashing() func(done, total int64) {
	if !isTerminal(e.stderr) {
		return nil
	}
	return func(done, total int64) { showHashing(e.stderr, done, total) }
}

// showHashing keeps one line about the hashing of layers, which takes as long as
// reading them does; the line goes when it is over.
func showHashing(out io.Writer, done, total int64) {
	if done >= total {
		fmt.Fprint(out, "\r\x1b[K")
		return
	}
	fmt.Fprintf(out, "\rrkt: verifying the layers against their digests: %s of %s\x1b[K", byteSize(done), byteSize(total))
}
