package supervise

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"rkt/stage1/contract"
)

// checkSockets refuses files of the service manager that no app may have: a
// folder, or a path without access, would lead out of the pod. Devices are
// refused as volumes of them are.
func checkSockets(u *contract.Unit) error {
	if u == nil {
		return nil
	}
	for _, s := range u.Sockets {
		if err := checkSocket(s.FD); err != nil {
			return fmt.Errorf("socket %q of the service manager: %w", s.Name, err)
		}
	}
	return nil
}

func checkSocket(fd int) error {
	if fd <= contract.LockFD {
		return fmt.Errorf("it cannot be file %d", fd)
	}
	if err := passable(fd); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFSOCK, unix.S_IFIFO, unix.S_IFREG:
		return nil
	}
	return errors.New("it is neither a socket nor a pipe nor a regular file")
}

// takeUnit adds to the start what the app gets of what a service manager has
// handed to the pod: sockets, credentials, and the variables that tell of them.
// They replace those that the image or the operator gave these names.
func (t *Task) takeUnit() {
	u := t.Host.Unit
	if u == nil {
		return
	}
	var vars, names []string
	for _, s := range u.Sockets {
		if takes(t.App.Sockets, s.Name) {
			t.Files, names = append(t.Files, s.FD), append(names, s.Name)
		}
	}
	if len(t.Files) > 0 {
		vars = append(vars, "LISTEN_FDS="+strconv.Itoa(len(t.Files)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
		t.PIDVariables = append(t.PIDVariables, "LISTEN_PID")
	}
	if t.App.Notify && u.WatchdogMicros > 0 {
		vars = append(vars, "WATCHDOG_USEC="+strconv.FormatUint(u.WatchdogMicros, 10))
		t.PIDVariables = append(t.PIDVariables, "WATCHDOG_PID")
	}
	spec, process := *t.Spec, *t.Spec.Process
	if u.Credentials != "" && len(t.App.Credentials) > 0 {
		vars = append(vars, "CREDENTIALS_DIRECTORY="+contract.CredentialsPath)
		spec.Mounts = append(slices.Clip(spec.Mounts), specs.Mount{
			Destination: contract.CredentialsPath, Type: "bind", Source: u.Credentials,
			Options: []string{"bind", "ro", "nosuid", "nodev", "noexec"},
		})
	}
	process.Env = append(without(process.Env, append(slices.Clip(vars), t.PIDVariables...)), vars...)
	spec.Process, t.Spec = &process, &spec
}

// takes says whether a list of names takes what has this name.
func takes(list []string, name string) bool {
	return slices.Contains(list, contract.Every) || slices.Contains(list, name)
}

// without is the environment env without the variables whose names are in vars,
// with or without values.
func without(env, vars []string) []string {
	names := make([]string, len(vars))
	for i, v := range vars {
		names[i], _, _ = strings.Cut(v, "=")
	}
	return slices.DeleteFunc(slices.Clone(env), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains(names, name)
	})
}
