package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func newQuadletCommand(env *environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "quadlet",
		Short: "Check files that describe pods, and show the systemd units that they become",
		Long: `Check files that describe pods, and show the systemd units that they become.

Files are those of podman's Quadlet: NAME.container, .pod, .volume, .image and
.kube. systemd makes units of those in /etc/rkt/quadlet, /run/rkt/quadlet and
/usr/lib/rkt/quadlet whenever it reloads. What is wrong with one is in the journal:
journalctl -t rkt-system-generator.`,
		Example: `  rkt quadlet check ./web.container
  rkt quadlet show web.service`,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
		Args: noSubcommand,
	}
	c.AddCommand(newQuadletCheckCommand(env), newQuadletShowCommand(env), newQuadletFilesCommand(env))
	return c
}

// newQuadletFilesCommand is what the units of .kube files call.
func newQuadletFilesCommand(env *environment) *cobra.Command {
	var into string
	c := &cobra.Command{
		Use:     "files --into=DIR YAML...",
		Short:   "Write the files that the pod of a .kube file mounts",
		Long:    `Write what ConfigMaps and Secrets become in a pod as files. Units call this.`,
		Example: "  rkt quadlet files --into=/run/rkt-kube/web /etc/rkt/quadlet/web.yaml",
		Hidden:  true,
		Args:    minimumArgs(1, "the YAML of a pod"),
		RunE: func(_ *cobra.Command, args []string) error {
			if into == "" {
				return &usageError{message: "expected --into=DIR", help: "rkt quadlet files --help"}
			}
			return becomeQuadlet(env, []string{"-into=" + into}, append([]string{"files"}, args...))
		},
	}
	c.Flags().StringVar(&into, "into", "", "folder that is there and is nobody else's")
	return c
}

func newQuadletCheckCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE|DIR...]",
		Short: "Tell what is wrong with files",
		Long: `Tell what is wrong with files, as FILE:LINE: MESSAGE, and which units the others
become. Nothing is written. Without an argument the files are those that systemd
makes units of. The exit status is not 0 if anything is wrong.`,
		Example: `  rkt quadlet check
  rkt quadlet check ./web.container ./db.container`,
		RunE: func(_ *cobra.Command, args []string) error {
			return becomeQuadlet(env, nil, append([]string{"check"}, args...))
		},
	}
}

func newQuadletShowCommand(env *environment) *cobra.Command {
	var o formatOption
	c := &cobra.Command{
		Use:   "show [NAME|FILE|DIR...]",
		Short: "Print the units that files become",
		Long: `Print the units that files become. A NAME is that of a unit or of a file that
systemd makes units of.`,
		Example: `  rkt quadlet show ./web.container
  rkt quadlet show web.service --format=json-pretty`,
		RunE: func(_ *cobra.Command, args []string) error {
			if err := o.check("rkt quadlet show --help"); err != nil {
				return err
			}
			return becomeQuadlet(env, []string{"-format=" + o.format}, append([]string{"show"}, args...))
		},
	}
	o.flags(c.Flags())
	return c
}

// quadletHost is stage0/quadlet.Host, which this program does not link.
type quadletHost struct {
	Program, DataDir string
	Flags            []string
}

// becomeQuadlet replaces this process by rkt-quadlet. It returns only on error.
func becomeQuadlet(env *environment, flags, words []string) error {
	if err := env.setUp(); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	program, err := env.companion("rkt-quadlet")
	if err != nil {
		return err
	}
	host := quadletHost{Program: self, DataDir: env.dataDir}
	for _, f := range []struct{ name, value, normal string }{
		{"dir", env.dataDir, defaultDataDir}, {"run-dir", env.runDir, defaultRunDir},
		{"system-config", env.systemConfig, defaultSystemConfig}, {"local-config", env.localConfig, defaultLocalConfig}, {"user-config", env.userConfig, ""}, {"driver", env.driver, ""},
	} {
		if f.value != f.normal {
			host.Flags = append(host.Flags, "--"+f.name+"="+f.value)
		}
	}
	b, err := json.Marshal(host)
	if err != nil {
		return fmt.Errorf("internal error: encode host: %w", err)
	}
	argv := []string{program, "-host", string(b), "-settings", filepath.Join(env.localConfig, "quadlet.conf")}
	argv = append(append(append(argv, flags...), "--"), words...)
	if err := unix.Exec(program, argv, os.Environ()); err != nil {
		return fmt.Errorf("execute %s: %w", program, err)
	}
	return nil
}
