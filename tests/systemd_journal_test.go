package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
)

// entries reads the journal.
func entries(t testing.TB, match ...string) []map[string]any {
	t.Helper()
	mustTool(t, "journalctl", "--sync")
	var all []map[string]any
	out := mustTool(t, "journalctl", append([]string{"--quiet", "--all", "--output=json", "--no-pager"}, match...)...)
	for line := range strings.Lines(out) {
		var e map[string]any
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, e)
	}
	return all
}

// TestSystemdDetach runs a pod as a service of systemd.
func TestSystemdDetach(t *testing.T) {
	needSystemd(t)
	h := newHost(t)
	uuid := h.must("run", "--detach", "--name=db", "--property=MemoryMax=200M", h.image("busybox"), "--",
		"sh", "-c", `echo 'one %n $HOME'; echo two >&2; exec sleep 1000`)
	s := h.status("db")
	u := &unit{t: t, name: "rkt-" + uuid + ".service"}
	if s.UUID != uuid || s.State != "running" || s.Unit != u.name {
		t.Fatalf("printed %q, status %+v", uuid, s)
	}
	for property, want := range map[string]string{
		"ActiveState": "active", "Type": "notify", "Slice": "machine.slice", "KillMode": "mixed", "Delegate": "yes",
		"MemoryMax": "209715200", "CollectMode": "inactive-or-failed", "MainPID": fmt.Sprint(s.PID), "Description": "rkt pod db",
	} {
		if got := u.property(property); got != want {
			t.Errorf("%s is %q, want %q", property, got, want)
		}
	}
	eventually(t, func() error {
		r := h.rkt("logs", "db")
		if r.stdout != "one %n $HOME\n" || r.stderr != "two\n" {
			return fmt.Errorf("the logs are %q and %q", r.stdout, r.stderr)
		}
		return nil
	})
	h.must("stop", "db")
	u.becomes("LoadState", "not-found")
	if s := h.status("db"); s.State != "exited" {
		t.Errorf("the pod is %s, want exited", s.State)
	}
	h.must("rm", "db")
	if r := h.rkt("logs", uuid); r.code != 0 || !strings.Contains(r.stdout, "one") {
		t.Errorf("logs of a removed pod: exit code %d, stdout %q, stderr %q", r.code, r.stdout, r.stderr)
	}
}

// TestSystemdDetachFails starts pods that do not start.
func TestSystemdDetachFails(t *testing.T) {
	needSystemd(t)
	h := newHost(t)
	ref := h.image("busybox")
	r := h.rkt("run", "--detach", "--name=missing", ref, "--", "no-such-command")
	if r.code != 127 || r.stdout != "" || !strings.Contains(r.stderr, "no-such-command") {
		t.Errorf("exit code %d, stdout %q, stderr %q", r.code, r.stdout, r.stderr)
	}
	uuid := h.status("missing").UUID
	(&unit{t: t, name: "rkt-" + uuid + ".service"}).becomes("LoadState", "not-found")
	if failed := mustTool(t, "systemctl", "--failed", "--plain", "--no-legend"); strings.Contains(failed, uuid) {
		t.Errorf("a failed unit is left: %s", failed)
	}
}

// TestSystemdDetachIsStopped ends detached pods behind rkt's back.
func TestSystemdDetachIsStopped(t *testing.T) {
	needSystemd(t)
	h := newHost(t)
	ref := h.image("busybox")
	for name, end := range map[string]func(status){
		"stopped": func(s status) { mustTool(t, "systemctl", "stop", s.Unit) },
		"killed":  func(s status) { mustTool(t, "systemctl", "kill", "--signal=KILL", "--kill-whom=main", s.Unit) },
		"terminated": func(s status) {
			eventually(t, func() error {
				if r := tool(t, "machinectl", "status", "rkt-"+s.UUID); r.code != 0 {
					return fmt.Errorf("machinectl: %s", r.stderr)
				}
				return nil
			})
			mustTool(t, "machinectl", "terminate", "rkt-"+s.UUID)
		},
	} {
		h.must("run", "--detach", "--name="+name, ref, "--", "sleep", "1000")
		s := h.status(name)
		end(s)
		h.must("status", "--wait=30s", name)
		(&unit{t: t, name: s.Unit}).becomes("LoadState", "not-found")
		if s := h.status(name); s.State != "exited" {
			t.Errorf("%s: the pod is %s, want exited", name, s.State)
		}
		h.must("rm", name)
	}
}

// TestSystemdMachine finds a pod among the machines, in whatever unit it is.
func TestSystemdMachine(t *testing.T) {
	needSystemd(t)
	h := newHost(t)
	ref := h.image("busybox")
	h.startFromShell("shell", ref, "--", "sleep", "1000")
	h.must("run", "--detach", "--name=detached", ref, "--", "sleep", "1000")
	u := h.newService("rkt-machine", []string{"KillMode=mixed"}, "run", "--name=plain", ref, "--", "sleep", "1000")
	u.start()
	var machines []string
	for _, name := range []string{"shell", "detached", "plain"} {
		h.must("status", "--wait-ready=30s", name)
		s := h.status(name)
		machine := "rkt-" + s.UUID
		machines = append(machines, machine)
		eventually(t, func() error {
			if list := mustTool(t, "machinectl", "list", "--no-legend", "--no-pager"); !strings.Contains(list, machine) {
				return fmt.Errorf("%s is not in %q", machine, list)
			}
			return nil
		})
		show := mustTool(t, "machinectl", "show", machine)
		for _, want := range []string{"Service=rkt", "Class=container", "Unit=" + s.Unit, fmt.Sprintf("Leader=%d", s.Apps[0].PID)} {
			if !strings.Contains(show+"\n", want+"\n") {
				t.Errorf("%s: no %s in\n%s", name, want, show)
			}
		}
	}
	s := h.status("shell")
	mustTool(t, "machinectl", "terminate", "rkt-"+s.UUID)
	h.must("status", "--wait=30s", "shell")
	u.stop()
	h.must("stop", "detached")
	eventually(t, func() error {
		list := mustTool(t, "machinectl", "list", "--no-legend", "--no-pager")
		for _, machine := range machines {
			if strings.Contains(list, machine) {
				return fmt.Errorf("machines are left: %s", list)
			}
		}
		return nil
	})
}

// TestSystemdJournalFields reads what short pods in a plain unit wrote: each line
// has its fields and its unit, although the supervisor is gone.
func TestSystemdJournalFields(t *testing.T) {
	needSystemd(t)
	h := newHost(t)
	ref := h.image("busybox")
	u := h.newService("rkt-fields", []string{"Type=oneshot"}, "run", "--rm", "--uuid-file-save="+h.run+".uuid", ref, "--name=web", "--",
		"sh", "-c", `echo line; echo "<3>error" >&2; printf 'a\0b\377c\n'; printf '%060000d\n' 7; printf unfinished`)
	for range 5 {
		u.start()
		b, err := os.ReadFile(h.run + ".uuid")
		if err != nil {
			t.Fatal(err)
		}
		uuid := strings.TrimSpace(string(b))
		all := entries(t, "RKT_POD="+uuid)
		got := map[string]map[string]any{}
		for _, e := range all {
			for field, want := range map[string]string{
				"_SYSTEMD_UNIT": u.name, "RKT_APP": "web", "SYSLOG_IDENTIFIER": "web", "_UID": "0",
			} {
				if e[field] != want {
					t.Errorf("%s of %q is %q, want %q", field, e["MESSAGE"], e[field], want)
				}
			}
			if id, _ := e["RKT_IMAGE_ID"].(string); !strings.HasPrefix(id, "sha256:") {
				t.Errorf("RKT_IMAGE_ID is %q", id)
			}
			if image, _ := e["RKT_IMAGE"].(string); !strings.Contains(image, "busybox") {
				t.Errorf("RKT_IMAGE is %q", image)
			}
			text, _ := e["MESSAGE"].(string)
			got[text[:min(len(text), 20)]] = e
		}
		if len(all) != 6 { // the long line is two
			t.Errorf("%d entries, want 6: %v", len(all), all)
		}
		for text, priority := range map[string]string{"line": "6", "error": "3", "unfinished": "6"} {
			if got[text]["PRIORITY"] != priority {
				t.Errorf("the priority of %q is %q, want %q", text, got[text]["PRIORITY"], priority)
			}
		}
	}
	if err := os.Remove(h.run + ".uuid"); err != nil {
		t.Fatal(err)
	}
}

// TestSystemdJournalRestart restarts the journal under an app that writes.
func TestSystemdJournalRestart(t *testing.T) {
	needSystemd(t)
	h := newHost(t)
	const lines = 2000
	uuid := h.must("run", "--detach", "--name=busy", h.image("busybox"), "--name=main", "--",
		"sh", "-c", fmt.Sprintf(`i=0; while [ $i -lt %d ]; do echo $i; i=$((i+1)); [ $((i%%100)) = 0 ] && sleep 0.1; done`, lines))
	for range 3 {
		mustTool(t, "systemctl", "restart", "systemd-journald.service")
	}
	h.must("status", "--wait=60s", "busy")
	all := entries(t, "RKT_POD="+uuid, "RKT_APP=main")
	if len(all) != lines {
		t.Errorf("%d lines are in the journal, want %d", len(all), lines)
	}
	for i, e := range all {
		if e["MESSAGE"] != fmt.Sprint(i) {
			t.Fatalf("line %d is %q", i, e["MESSAGE"])
		}
	}
}

// TestSystemdLogs follows a detached pod to its end, and is not taken in by others
// that write in its name.
func TestSystemdLogs(t *testing.T) {
	needSystemd(t)
	h := newHost(t)
	uuid := h.must("run", "--detach", "--name=talker", h.image("busybox"), "--name=main", "--",
		"sh", "-c", `for i in 1 2 3 4 5; do echo $i; sleep 0.2; done; printf end`)
	forged := fmt.Sprintf("MESSAGE=forged\nRKT_POD=%s\nRKT_APP=main\n", uuid)
	file := h.run + ".forged"
	if err := os.WriteFile(file, []byte(forged), 0o644); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(file)
	mustTool(t, "sh", "-c", "setpriv --reuid=65534 --clear-groups logger --journald <"+file)
	if got := h.must("logs", "--follow", "talker"); got != "1\n2\n3\n4\n5\nend" {
		t.Errorf("the logs are %q", got)
	}
	if n := len(entries(t, "RKT_POD="+uuid, "MESSAGE=forged")); n != 1 {
		t.Errorf("%d forged entries, want 1: the test shows nothing", n)
	}
	if got := h.must("logs", "--lines=2", "talker", "main"); got != "5\nend" {
		t.Errorf("the last two lines are %q", got)
	}
	var e struct{ App, Stream, Message string }
	if err := json.Unmarshal([]byte(h.must("logs", "-n1", "--format=json", "talker")), &e); err != nil || e.App != "main" || e.Stream != "stdout" || e.Message != "end" {
		t.Errorf("the last line is %+v (%v)", e, err)
	}
	if got := h.must("logs", "--since=2100-01-01 00:00:00", "talker"); got != "" {
		t.Errorf("lines of the future: %q", got)
	}
}
