package plan

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"rkt/stage1/contract"
)

const (
	// defaultPath is what the images of the field expect.
	defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	// maxCandidates bounds the entries of PATH that are tried.
	maxCandidates = 64
	// umask is what programs expect; the caller's own is none of the pod's business.
	umask = 0o022
)

// ErrNoCommand reports an image that does not say what to run, and an operator
// who does not either.
var ErrNoCommand = errors.New("the image has no command and none is given after --")

// process decides what runs, with what environment, where and as whom.
func (c *compiler) process(a *App, who Who) (*specs.Process, []string, error) {
	args, err := command(a)
	if err != nil {
		return nil, nil, err
	}
	cwd, err := workingDir(a)
	if err != nil {
		return nil, nil, err
	}
	env, err := c.environment(a, who)
	if err != nil {
		return nil, nil, err
	}
	candidates, err := Candidates(args[0], env)
	if err != nil {
		return nil, nil, err
	}
	mask := uint32(umask)
	if a.Umask != nil {
		if mask = *a.Umask; mask > 0o777 {
			return nil, nil, fmt.Errorf("--umask %#o is not one", mask)
		}
	}
	return &specs.Process{
		Args: args, Cwd: cwd, Env: env,
		User:            specs.User{UID: who.UID, GID: who.GID, AdditionalGids: who.Groups, Umask: &mask},
		NoNewPrivileges: c.has[contract.FeatureCaps] && !a.AllowPrivilegeEscalation,
	}, candidates, nil
}

// command is argv: the entrypoint, then the operator's arguments or else the
// image's. --exec replaces the entrypoint, and with it the image's arguments.
func command(a *App) ([]string, error) {
	cfg := a.Image.Config
	argv, args := cfg.Entrypoint, cfg.Cmd
	if a.Exec != "" {
		argv, args = []string{a.Exec}, nil
	}
	if len(a.Args) > 0 {
		args = a.Args
	}
	argv = slices.Concat(argv, args)
	if len(argv) == 0 {
		return nil, ErrNoCommand
	}
	if argv[0] == "" {
		return nil, errors.New("the command is empty")
	}
	for _, arg := range argv {
		if strings.ContainsRune(arg, 0) {
			return nil, fmt.Errorf("argument %q has a NUL character", arg)
		}
		if !utf8.ValidString(arg) { // the files of a pod could not carry it
			return nil, fmt.Errorf("argument %q is not UTF-8", arg)
		}
	}
	return argv, nil
}

// Candidates are the paths under which a command is looked for, in order.
func Candidates(command string, env []string) ([]string, error) {
	if strings.Contains(command, "/") {
		return []string{command}, nil
	}
	search, _ := lookup(env, "PATH")
	var found []string
	for dir := range strings.SplitSeq(search, ":") {
		// An empty or relative entry would mean the working directory.
		if !path.IsAbs(dir) {
			continue
		}
		if p := path.Join(dir, command); !slices.Contains(found, p) {
			found = append(found, p)
		}
	}
	switch {
	case len(found) > maxCandidates:
		return nil, fmt.Errorf("PATH has %d folders, limit is %d", len(found), maxCandidates)
	case len(found) == 0:
		return nil, fmt.Errorf("PATH %q has no folder to look for %q in", search, command)
	}
	return found, nil
}

// workingDir is where the app starts. Below /proc are the doors to file
// descriptors and to the roots of other processes (CVE-2024-21626).
func workingDir(a *App) (string, error) {
	dir := a.Image.Config.WorkingDir
	if a.WorkingDir != "" {
		dir = a.WorkingDir
	}
	return CheckDir(dir)
}

// CheckDir returns the clean form of a working directory; "" is the root.
func CheckDir(dir string) (string, error) {
	if dir == "" {
		return "/", nil
	}
	clean := path.Clean(dir)
	switch {
	case !path.IsAbs(dir):
		return "", fmt.Errorf("working directory %q is not an absolute path", dir)
	case strings.ContainsRune(dir, 0) || len(dir) > maxPath:
		return "", fmt.Errorf("working directory %.64q... is not a path", dir)
	case within(clean, "/proc"):
		return "", fmt.Errorf("working directory %q is below /proc", dir)
	}
	return clean, nil
}

// maxPath is the kernel's limit on a path (PATH_MAX), with its NUL.
const maxPath = 4095

// within says whether the clean path p is dir or below it.
func within(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

// environment is the image's variables, the pod's, the app's, each before the
// last, then what programs miss when nobody set it.
func (c *compiler) environment(a *App, who Who) ([]string, error) {
	var env variables
	for _, from := range []struct {
		whose string
		vars  []string
	}{
		{"of the image", a.Image.Config.Env},
		{"for the pod", c.spec.Environment},
		{"for the app", a.Environment},
	} {
		for _, v := range from.vars {
			if err := checkVariable(v); err != nil {
				return nil, fmt.Errorf("environment %s: %w", from.whose, err)
			}
			env.set(v)
		}
	}
	home := who.Home
	if !path.IsAbs(home) || strings.ContainsRune(home, 0) {
		home = "/"
	}
	missing := []string{"PATH=" + defaultPath, "HOME=" + home, "container=oci"}
	if c.files.Pod.Hostname != "" {
		missing = append(missing, "HOSTNAME="+c.files.Pod.Hostname)
	}
	if c.spec.Interactive || a.Stdin.Kind == contract.StreamPTY {
		missing = append(missing, "TERM=xterm")
	}
	for _, v := range missing {
		env.setDefault(v)
	}
	return env.list, nil
}

// checkVariable accepts NAME=VALUE. Names are printable and without blanks;
// values are any bytes that execve can carry.
func checkVariable(v string) error {
	name, value, ok := strings.Cut(v, "=")
	if !ok || name == "" {
		return fmt.Errorf("%q is not NAME=VALUE", v)
	}
	for _, r := range []byte(name) {
		if r <= ' ' || r >= 0x7f {
			return fmt.Errorf("variable name %q has a blank, a control or a non-ASCII character", name)
		}
	}
	if strings.ContainsRune(value, 0) {
		return fmt.Errorf("value of variable %q has a NUL character", name)
	}
	if !utf8.ValidString(value) {
		return fmt.Errorf("value of variable %q is not UTF-8", name)
	}
	return nil
}

// variables are an environment under construction. Images can bring very many.
type variables struct {
	list  []string
	index map[string]int // by name
}

// set appends a variable or replaces the one of that name.
func (e *variables) set(v string) {
	name, _, _ := strings.Cut(v, "=")
	if i, there := e.index[name]; there {
		e.list[i] = v
		return
	}
	if e.index == nil {
		e.index = make(map[string]int)
	}
	e.index[name] = len(e.list)
	e.list = append(e.list, v)
}

// setDefault appends a variable unless there is one of that name.
func (e *variables) setDefault(v string) {
	name, _, _ := strings.Cut(v, "=")
	if _, there := e.index[name]; !there {
		e.set(v)
	}
}

// lookup finds the value of a variable.
func lookup(env []string, name string) (string, bool) {
	for _, v := range env {
		if n, value, _ := strings.Cut(v, "="); n == name {
			return value, true
		}
	}
	return "", false
}

// MergeEnvironment checks variables, of which a later one replaces an earlier
// one of its name.
func MergeEnvironment(vars []string) ([]string, error) {
	var env variables
	for _, v := range vars {
		if err := checkVariable(v); err != nil {
			return nil, err
		}
		env.set(v)
	}
	return env.list, nil
}
