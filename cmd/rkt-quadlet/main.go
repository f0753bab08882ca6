// Command rkt-quadlet makes systemd units of Quadlet files. It is a program of
// its own because it reads YAML, whose library would make every start of rkt
// slower, and because systemd runs it at each reload.
//
//	rkt-system-generator UNITS [EARLY LATE]   as systemd calls it
//	rkt-quadlet [-host JSON] check|show|files ...   as rkt calls it
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"rkt/stage0/quadlet"
	"rkt/stage0/quadlet/generator"
)

// exitFailure is rkt's own status.
const exitFailure = 125

func main() {
	unix.Umask(0o022) // modes on disk are ours, not the caller's
	if filepath.Base(os.Args[0]) == generator.Name {
		os.Exit(generator.Main(os.Args[1:], thisHost(), os.Getenv))
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "rkt: error: %v\n", err)
		os.Exit(exitFailure)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("rkt-quadlet", flag.ContinueOnError)
	hostJSON := flags.String("host", "", "what the units are made for, as JSON")
	settings := flags.String("settings", generator.Settings, "file of settings")
	format := flags.String("format", "", "show: json or json-pretty")
	into := flags.String("into", "", "files: folder to write to")
	if err := flags.Parse(args); err != nil {
		return err
	}
	host := thisHost()
	if *hostJSON != "" {
		if err := json.Unmarshal([]byte(*hostJSON), &host); err != nil {
			return fmt.Errorf("decode -host: %w", err)
		}
	}
	if flags.NArg() == 0 {
		return errors.New("rkt-quadlet is called by rkt and by systemd; see rkt quadlet --help")
	}
	rest := flags.Args()[1:]
	switch flags.Arg(0) {
	case "check":
		return check(host, *settings, rest)
	case "show":
		return show(host, *settings, *format, rest)
	case "files":
		if err := generator.WriteFiles(*into, rest); err != nil {
			return fmt.Errorf("write files of the pod: %w", err)
		}
		return nil
	}
	return fmt.Errorf("unknown command %q", flags.Arg(0))
}

// thisHost is a host with the default folders, and rkt where it is beside this
// program: in the same folder, as built, or in bin, as installed.
func thisHost() quadlet.Host {
	host := quadlet.Host{Program: "/usr/bin/rkt", DataDir: "/var/lib/rkt"}
	self, err := os.Executable()
	if err != nil {
		return host
	}
	dir := filepath.Dir(self)
	for _, program := range []string{filepath.Join(dir, "rkt"), filepath.Join(dir, "../../bin/rkt")} {
		if info, err := os.Stat(program); err == nil && info.Mode().IsRegular() {
			host.Program = program
			break
		}
	}
	return host
}
