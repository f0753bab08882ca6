package confined

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"rkt/fetch/wire"
)

// errNotConfined is a process that says it is confined and is not.
var errNotConfined = errors.New("rkt-fetch is not confined as it says")

// readBack compares what the process says about its confinement with what the
// kernel says. What the kernel does not tell us is believed: the process has
// read nothing yet but what rkt itself gave it.
func (p *process) readBack(lines wire.Line, id identity) error {
	status, err := readStatus(p.pid)
	if err != nil {
		return fmt.Errorf("read back confinement: %w", err)
	}
	uid, gid := fmt.Sprint(id.uid), fmt.Sprint(id.gid)
	none := "0000000000000000"
	want := []struct {
		line       wire.Line
		key, value string
	}{
		{wire.OwnUser, "Uid", strings.Join([]string{uid, uid, uid, uid}, "\t")},
		{wire.OwnUser, "Gid", strings.Join([]string{gid, gid, gid, gid}, "\t")},
		{wire.OwnUser, "Groups", ""},
		{wire.NoCaps, "CapInh", none}, {wire.NoCaps, "CapPrm", none}, {wire.NoCaps, "CapEff", none}, {wire.NoCaps, "CapAmb", none},
		{wire.NoNewPrivs, "NoNewPrivs", "1"},
		{wire.Filter, "Seccomp", "2"},
	}
	for _, w := range want {
		if got, told := status[w.key]; lines&w.line != 0 && told && got != w.value {
			return fmt.Errorf("%w: %s is %q, want %q", errNotConfined, w.key, got, w.value)
		}
	}
	return p.namespacesDiffer(lines)
}

// namespacesDiffer wants the namespaces of the process to be others than ours.
func (p *process) namespacesDiffer(lines wire.Line) error {
	for line, name := range map[wire.Line]string{
		wire.OwnUserNS: "user", wire.OwnRoot: "mnt", wire.OwnPids: "pid", wire.OwnIPC: "ipc",
		wire.OwnUTS: "uts", wire.OwnCgroupNS: "cgroup", wire.NoNetwork: "net",
	} {
		if lines&line == 0 {
			continue
		}
		ours, err := os.Readlink("/proc/self/ns/" + name)
		if err != nil {
			continue
		}
		theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", p.pid, name))
		if err == nil && ours == theirs {
			return fmt.Errorf("%w: its %s namespace is ours", errNotConfined, name)
		}
	}
	return nil
}

// readStatus reads /proc/PID/status of the first thread.
func readStatus(pid int) (map[string]string, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	status := map[string]string{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), ":")
		status[key] = strings.TrimSpace(value)
	}
	return status, nil
}
