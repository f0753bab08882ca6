package stage0

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rkt/stage0/pod"
	"rkt/stage1/contract"
)

// The test binary plays the other programs: a supervisor, an app, and the
// entrypoints of a stage1. helperArg as first argument says so.
const helperArg = "play"

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == helperArg {
		os.Exit(play(os.Args[2], os.Args[3:]))
	}
	os.Exit(m.Run())
}

func play(part string, args []string) int {
	var err error
	switch part {
	case "app":
		signal.Ignore(unix.SIGTERM)
		fmt.Println("ready")
		io.Copy(io.Discard, os.Stdin)
		time.Sleep(time.Hour) // until it is killed
	case "supervisor":
		err = playSupervisor(args[0], args[1], args[2:])
	case "stop":
		err = playStop(len(args) > 0)
	case "gc":
		if _, bad := os.Stat("fail-gc"); bad == nil {
			err = fmt.Errorf("cannot release the widget")
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// playSupervisor makes and runs a pod with one app, which is args[0]'s mood:
// "good" ends on SIGTERM, "deaf" ignores it.
func playSupervisor(data, stage1 string, args []string) error {
	d, err := pod.Open(data)
	if err != nil {
		return err
	}
	p, err := d.Create("web")
	if err != nil {
		return err
	}
	if err := writePod(p, stage1); err != nil {
		return err
	}
	if err := p.ToRun(); err != nil {
		return err
	}
	app := exec.Command("/proc/self/exe", helperArg, "app")
	app.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	out, err := app.StdoutPipe()
	if err != nil {
		return err
	}
	if err := app.Start(); err != nil {
		return err
	}
	bufio.NewReader(out).ReadString('\n')
	if err := writeStarted(p.Path(), app.Process.Pid); err != nil {
		return err
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, unix.SIGTERM)
	if args[0] == "deaf" {
		signal.Ignore(unix.SIGTERM)
	}
	fmt.Println(p.UUID())
	<-term
	app.Process.Kill()
	app.Wait()
	return contract.Write(filepath.Join(p.Path(), contract.AppsDir, "web"), contract.ExitFile,
		contract.Exit{Code: 137, Signal: 9, Nanos: time.Now().UnixNano()})
}

// playStop is the stop entrypoint of the stage1.
func playStop(force bool) error {
	b, err := os.ReadFile("lock")
	if err != nil {
		return err
	}
	var pid int
	if _, err := fmt.Sscan(string(b), &pid); err != nil {
		return err
	}
	return unix.Kill(pid, unix.SIGTERM)
}

func writePod(p *pod.Pod, stage1 string) error {
	boot, err := pod.BootID()
	if err != nil {
		return err
	}
	app := filepath.Join(p.Path(), contract.AppsDir, "web")
	if err := os.MkdirAll(filepath.Join(app, contract.UpperDir), 0o700); err != nil {
		return err
	}
	for file, v := range map[string]any{
		contract.PodFile: contract.Pod{Version: contract.Version, UUID: p.UUID().String(), Name: "web",
			CreatedNanos: time.Now().UnixNano(), Stage1: contract.Stage1{Name: "stub", Dir: stage1}, Apps: []string{"web"}},
		contract.HostFile: contract.Host{Version: contract.Version, BootID: boot},
	} {
		if err := contract.Write(p.Path(), file, v); err != nil {
			return err
		}
	}
	return contract.Write(app, contract.AppFile, contract.App{Version: contract.Version, Name: "web", StopGraceMillis: 1,
		Image: contract.Image{Reference: "example.org/web:1", ID: "sha256:" + strings.Repeat("1", 64)}, Layers: []string{strings.Repeat("2", 64)}})
}

func writeStarted(dir string, pid int) error {
	boot, err := pod.BootID()
	if err != nil {
		return err
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	ticks, err := strconv.ParseUint(strings.Fields(rest)[19], 10, 64)
	if err != nil {
		return err
	}
	return contract.Write(filepath.Join(dir, contract.AppsDir, "web"), contract.StartedFile,
		contract.Started{PID: pid, StartTicks: ticks, BootID: boot, Nanos: time.Now().UnixNano()})
}

// host is a data directory and a run directory with a stub stage1.
type host struct {
	testing.TB
	env    *Env
	data   string
	stage1 string
}

func newHost(t testing.TB) *host {
	t.Helper()
	h := &host{TB: t, data: t.TempDir(), stage1: t.TempDir()}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(h.stage1, "stage1")); err != nil {
		t.Fatal(err)
	}
	err = contract.Write(h.stage1, contract.ManifestFile, contract.Manifest{Name: "stub", Contract: contract.Version,
		Entrypoints: map[string][]string{
			contract.EntryStop: {"stage1", helperArg, "stop"},
			contract.EntryGC:   {"stage1", helperArg, "gc"},
		}})
	if err != nil {
		t.Fatal(err)
	}
	h.env = &Env{RunDir: t.TempDir()}
	h.reopen()
	t.Cleanup(func() { h.env.Pods.Close() })
	return h
}

// reopen opens the pods again: a Dir that was opened before the first pod was
// made by another process is empty.
func (h *host) reopen() {
	h.Helper()
	if h.env.Pods != nil {
		h.env.Pods.Close()
	}
	d, err := pod.Open(h.data)
	if err != nil {
		h.Fatal(err)
	}
	h.env.Pods = d
}

// supervisor is a running pod.
type supervisor struct {
	*exec.Cmd
	uuid string
}

func (h *host) run(mood string) *supervisor {
	h.Helper()
	s := &supervisor{Cmd: exec.Command("/proc/self/exe", helperArg, "supervisor", h.data, h.stage1, mood)}
	s.Stderr = os.Stderr
	out, err := s.StdoutPipe()
	if err != nil {
		h.Fatal(err)
	}
	if err := s.Start(); err != nil {
		h.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		h.Fatalf("the supervisor said %q: %v", line, err)
	}
	s.uuid = strings.TrimSpace(line)
	h.reopen()
	h.Cleanup(func() {
		s.Process.Kill()
		s.Wait()
		if p, err := h.env.Pods.Find(s.uuid); err == nil {
			p.Kill(h.Context())
			p.Close()
		}
	})
	return s
}

// killed ends the supervisor as kill -9 does.
func (s *supervisor) killed() {
	s.Process.Kill()
	s.Wait()
}

func (h *host) pod(word string) *pod.Pod {
	h.Helper()
	p, err := h.env.Pods.Find(word)
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { p.Close() })
	return p
}

// create makes a pod at a place, unlocked.
func (h *host) create(name string, place pod.Place) *pod.Pod {
	h.Helper()
	p, err := h.env.Pods.Create(name)
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { p.Close() })
	if err := writePod(p, h.stage1); err != nil {
		h.Fatal(err)
	}
	if place >= pod.InPrepared {
		err = p.ToPrepared(false)
	}
	if err == nil && place >= pod.InRun {
		err = p.ToRun()
	}
	if err == nil && place >= pod.InExitedGarbage {
		err = p.ToExitedGarbage()
	}
	if err == nil && place >= pod.InGarbage {
		err = p.ToGarbage()
	}
	if err != nil {
		h.Fatal(err)
	}
	p.Unlock()
	return p
}

func (h *host) wantState(word string, want pod.State) {
	h.Helper()
	got, err := h.pod(word).State()
	if err != nil {
		h.Fatal(err)
	}
	if got != want {
		h.Errorf("state %q, want %q", got, want)
	}
}

// wantGone checks that nothing is left of any pod.
func (h *host) wantGone() {
	h.Helper()
	for _, pattern := range []string{filepath.Join(h.data, "pods", "*", "*"), filepath.Join(h.env.RunDir, "*", "*")} {
		left, err := filepath.Glob(pattern)
		if err != nil || len(left) > 0 {
			h.Errorf("left behind: %v, %v", left, err)
		}
	}
}
