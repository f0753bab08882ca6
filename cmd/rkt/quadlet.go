package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"rkt/internal/escape"
	"rkt/stage0/quadlet"
	"rkt/stage0/quadlet/generator"
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
	c.AddCommand(newQuadletCheckCommand(env), newQuadletShowCommand(env), newQuadletFilesCommand())
	return c
}

// newQuadletFilesCommand is what the units of .kube files call.
func newQuadletFilesCommand() *cobra.Command {
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
			if err := generator.WriteFiles(into, args); err != nil {
				return fmt.Errorf("write files of the pod: %w", err)
			}
			return nil
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
		RunE: func(_ *cobra.Command, args []string) error { return quadletCheck(env, args) },
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
		RunE: func(_ *cobra.Command, args []string) error { return quadletShow(env, o, args) },
	}
	o.flags(c.Flags())
	return c
}

func quadletCheck(env *environment, args []string) error {
	r, err := compileQuadlets(env, args)
	if err != nil {
		return err
	}
	for _, u := range r.Units {
		fmt.Fprintf(env.stdout, "%s: %s\n", escape.Text(u.Source), u.Name)
	}
	return mistakes(env, r)
}

func quadletShow(env *environment, o formatOption, args []string) error {
	if err := o.check("rkt quadlet show --help"); err != nil {
		return err
	}
	r, err := compileQuadlets(env, args)
	if err != nil {
		return err
	}
	if o.json() {
		return errors.Join(o.writeJSON(env.stdout, quadletJSON{nonNil(r.Units), nonNil(r.Links), nonNil(r.Errors)}), mistakes(env, r))
	}
	for i, u := range r.Units {
		if i > 0 {
			fmt.Fprintln(env.stdout)
		}
		fmt.Fprintf(env.stdout, "# %s\n%s", u.Name, u.Text)
	}
	for i, l := range r.Links {
		if i == 0 {
			fmt.Fprintln(env.stdout)
		}
		fmt.Fprintf(env.stdout, "# %s -> %s\n", l.Name, l.Target)
	}
	return mistakes(env, r)
}

// quadletJSON is what --format=json shows.
type quadletJSON struct {
	Units  []quadlet.Unit   `json:"units"`
	Links  []quadlet.Link   `json:"links"`
	Errors []*quadlet.Error `json:"errors"`
}

func nonNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// mistakes tells what is wrong.
func mistakes(env *environment, r quadlet.Result) error {
	files := make(map[string]bool)
	for _, e := range r.Errors {
		files[e.Path] = true
		fmt.Fprintln(env.stderr, escape.Text(e.Error()))
	}
	if len(files) == 0 {
		return nil
	}
	return fmt.Errorf("mistakes: %d, in files: %d", len(r.Errors), len(files))
}

// compileQuadlets makes units of what the arguments name, in memory.
func compileQuadlets(env *environment, args []string) (quadlet.Result, error) {
	var none quadlet.Result
	host, err := env.quadletHost()
	if err != nil {
		return none, err
	}
	dirs, wanted, errs, err := quadletFolders(env, args)
	if err != nil {
		return none, err
	}
	sources, loadErrs := generator.Load(dirs)
	r := quadlet.Compile(sources, host)
	r.Errors = slices.Concat(errs, loadErrs, r.Errors)
	if len(wanted) == 0 {
		return r, nil
	}
	r.Units = slices.DeleteFunc(r.Units, func(u quadlet.Unit) bool { return !wanted.unit(u.Name, u.Source) })
	r.Links = slices.DeleteFunc(r.Links, func(l quadlet.Link) bool { return !wanted.unit(filepath.Base(l.Target), l.Source) })
	r.Errors = slices.DeleteFunc(r.Errors, func(e *quadlet.Error) bool { return !wanted.mistake(e.Path) })
	if len(r.Units) == 0 && len(r.Errors) == 0 {
		return r, withHint(fmt.Errorf("nothing is made of %s", strings.Join(args, " ")), "rkt quadlet check")
	}
	return r, nil
}

// selection is what of many units somebody wants to see: those of some files,
// by their paths, and some by their names.
type selection map[string]bool

func (s selection) unit(name, source string) bool {
	return s[name] || s[source] || s[filepath.Base(source)] || s["dir:"+filepath.Dir(source)]
}

func (s selection) mistake(path string) bool {
	return s.unit("", path) || strings.HasSuffix(path, ".conf")
}

// quadletFolders are the folders to look into. A file may need others in its
// folder.
func quadletFolders(env *environment, args []string) (dirs []string, wanted selection, errs []*quadlet.Error, err error) {
	if err := env.setUp(); err != nil {
		return nil, nil, nil, err
	}
	wanted = make(selection)
	named := false
	for _, arg := range args {
		if !strings.ContainsRune(arg, '/') {
			if _, err := os.Lstat(arg); err != nil {
				wanted[arg], named = true, true
				continue
			}
		}
		path, err := filepath.Abs(arg)
		if err != nil {
			return nil, nil, nil, err
		}
		info, err := os.Stat(path)
		if err != nil {
			return nil, nil, nil, err
		}
		if info.IsDir() {
			dirs = append(dirs, path)
			wanted["dir:"+path] = true
			continue
		}
		if _, ok := quadlet.KindOf(path); !ok {
			return nil, nil, nil, fmt.Errorf("%q does not end in .container, .pod, .volume, .network, .image or .kube", arg)
		}
		dirs = append(dirs, filepath.Dir(path))
		wanted[path] = true
	}
	if named || len(args) == 0 {
		more, settingsErrs := generator.Folders(filepath.Join(env.localConfig, "quadlet.conf"))
		dirs, errs = append(dirs, more...), settingsErrs
	}
	return dirs, wanted, errs, nil
}

// quadletHost is what units are made for: this program, with the folders that
// the flags say.
func (e *environment) quadletHost() (quadlet.Host, error) {
	if err := e.setUp(); err != nil {
		return quadlet.Host{}, err
	}
	host, err := thisHost()
	host.DataDir, host.RunDir = e.dataDir, e.runDir
	for _, f := range []struct{ name, value, normal string }{
		{"dir", e.dataDir, defaultDataDir}, {"run-dir", e.runDir, defaultRunDir},
		{"system-config", e.systemConfig, defaultSystemConfig}, {"local-config", e.localConfig, defaultLocalConfig}, {"driver", e.driver, ""},
	} {
		if f.value != f.normal {
			host.Flags = append(host.Flags, "--"+f.name+"="+f.value)
		}
	}
	return host, err
}

// thisHost is a host with the default folders.
func thisHost() (quadlet.Host, error) {
	program, err := os.Executable()
	if err != nil {
		return quadlet.Host{}, fmt.Errorf("find own program: %w", err)
	}
	return quadlet.Host{Program: program, DataDir: defaultDataDir, RunDir: defaultRunDir}, nil
}

// runGenerator is the program under the name that systemd starts it by.
func runGenerator(args []string) int {
	host, err := thisHost()
	if err != nil {
		return 1
	}
	return generator.Main(args, host, os.Getenv)
}
