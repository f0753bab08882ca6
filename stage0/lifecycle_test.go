package stage0

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rkt/cas"
	"rkt/internal/safepath"
	"rkt/stage0/pod"
	"rkt/stage1/contract"
)

func TestStatusOfARunningPod(t *testing.T) {
	h := newHost(t)
	s := h.run("good")
	got, err := StatusOf(h.pod("web"))
	if err != nil {
		t.Fatal(err)
	}
	if got.State != pod.Running || got.PID != s.Process.Pid || got.Name != "web" || got.Started.IsZero() || len(got.Problems) > 0 {
		t.Errorf("StatusOf() = %+v", got)
	}
	if len(got.Apps) != 1 || got.Apps[0].State != pod.AppRunning || got.Apps[0].PID == 0 || got.Apps[0].Image != "example.org/web:1" {
		t.Errorf("apps = %+v", got.Apps)
	}
	b, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"uuid":"` + s.uuid, `"state":"running"`, `"apps":[{"name":"web"`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("JSON lacks %s: %s", want, b)
		}
	}
	if strings.Contains(string(b), `"ended"`) || strings.Contains(string(b), `"exitCode"`) {
		t.Errorf("JSON has values that are not known yet: %s", b)
	}
}

func TestADamagedPodIsShownWithItsProblem(t *testing.T) {
	h := newHost(t)
	p := h.create("", pod.InExitedGarbage)
	for file, problem := range map[string]string{contract.PodFile: "parse pod.json", contract.AppsDir + "/web/app.json": "parse app.json"} {
		if err := os.WriteFile(filepath.Join(p.Path(), file), []byte(`{"version":1,`), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := StatusOf(h.pod(p.UUID().String()))
		if err != nil || !strings.Contains(strings.Join(s.Problems, "\n"), problem) || s.State != pod.ExitedGarbage {
			t.Errorf("%s: StatusOf() = %+v, %v", file, s, err)
		}
	}
}

func TestStop(t *testing.T) {
	h := newHost(t)
	s := h.run("good")
	stopped, err := Stop(t.Context(), h.pod("web"), StopOptions{})
	if err != nil || !stopped {
		t.Errorf("Stop() = %v, %v", stopped, err)
	}
	s.Wait()
	h.wantState(s.uuid, pod.Exited)
	got, err := StatusOf(h.pod("web"))
	if err != nil || *got.Apps[0].ExitCode != 137 || got.Ended.IsZero() {
		t.Errorf("StatusOf() = %+v, %v", got, err)
	}
	if stopped, err := Stop(t.Context(), h.pod("web"), StopOptions{}); err != nil || stopped {
		t.Errorf("Stop() again = %v, %v", stopped, err)
	}
	p := h.create("", pod.InPrepared)
	var not *NotRunningError
	if _, err := Stop(t.Context(), p, StopOptions{}); !errors.As(err, &not) {
		t.Errorf("Stop() of a prepared pod = %v", err)
	}
}

func TestStopWithoutStage1ReachesTheSupervisor(t *testing.T) {
	h := newHost(t)
	h.run("good")
	if err := os.RemoveAll(h.stage1); err != nil {
		t.Fatal(err)
	}
	if stopped, err := Stop(t.Context(), h.pod("web"), StopOptions{}); err != nil || !stopped {
		t.Errorf("Stop() = %v, %v", stopped, err)
	}
}

func TestStopMakesAStoppedSupervisorGoOn(t *testing.T) {
	h := newHost(t)
	s := h.run("good")
	s.Process.Signal(unix.SIGSTOP)
	if stopped, err := Stop(t.Context(), h.pod("web"), StopOptions{}); err != nil || !stopped {
		t.Errorf("Stop() = %v, %v", stopped, err)
	}
	s.Wait()
	h.wantState(s.uuid, pod.Exited)
}

func TestStopForceEndsAStoppedSupervisor(t *testing.T) {
	h := newHost(t)
	s := h.run("deaf")
	if err := os.RemoveAll(h.stage1); err != nil { // nobody to ask: no time is lost
		t.Fatal(err)
	}
	s.Process.Signal(unix.SIGSTOP)
	if stopped, err := Stop(t.Context(), h.pod("web"), StopOptions{Force: true}); err != nil || !stopped {
		t.Errorf("Stop() = %v, %v", stopped, err)
	}
	h.wantState(s.uuid, pod.Exited)
}

func TestOrphansAreKilledByStopRemoveAndGC(t *testing.T) {
	for name, end := range map[string]func(h *host, p *pod.Pod) error{
		"stop": func(h *host, p *pod.Pod) error { _, err := Stop(h.Context(), p, StopOptions{}); return err },
		"rm":   func(h *host, p *pod.Pod) error { return Remove(h.Context(), h.env, p) },
		"gc":   func(h *host, p *pod.Pod) error { _, err := GC(h.Context(), h.env, GCOptions{}); return err },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			s := h.run("good")
			st, err := h.pod("web").Started("web")
			if err != nil {
				t.Fatal(err)
			}
			fd, err := unix.PidfdOpen(st.PID, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			s.killed()
			h.wantState(s.uuid, pod.Orphaned)
			if err := end(h, h.pod("web")); err != nil {
				t.Error(err)
			}
			if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0); n != 1 {
				t.Error("the app is alive")
			}
			if name == "stop" {
				h.wantState(s.uuid, pod.Exited)
			} else {
				h.wantGone()
			}
		})
	}
}

func TestRemoveRefusesWhatRunsOrIsPrepared(t *testing.T) {
	h := newHost(t)
	s := h.run("good")
	var inUse *InUseError
	if err := Remove(t.Context(), h.env, h.pod("web")); !errors.As(err, &inUse) || inUse.State != pod.Running || inUse.Hint() == "" {
		t.Errorf("Remove() = %v", err)
	}
	preparing, err := h.env.Pods.Create("")
	if err != nil {
		t.Fatal(err)
	}
	defer preparing.Close()
	if err := Remove(t.Context(), h.env, h.pod(preparing.UUID().String())); !errors.As(err, &inUse) || inUse.State != pod.Preparing {
		t.Errorf("Remove() = %v", err)
	}
	h.wantState(s.uuid, pod.Running)
}

func TestRemoveReleasesEverything(t *testing.T) {
	h := newHost(t)
	for _, place := range []pod.Place{pod.InPrepare, pod.InPrepared, pod.InRun, pod.InExitedGarbage, pod.InGarbage} {
		p := h.create("web", place)
		id := p.UUID().String()
		ids := filepath.Join(h.env.RunDir, idsDir)
		for _, dir := range []string{ids, filepath.Join(h.env.RunDir, podsRunDir, id, "deep")} {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		mine, reused := filepath.Join(ids, "524288"), filepath.Join(ids, "589824")
		write(t, mine, id+"\n")
		write(t, reused, pod.NewUUID().String()+"\n")
		boot, err := pod.BootID()
		if err != nil {
			t.Fatal(err)
		}
		err = contract.Write(p.Path(), contract.HostFile, contract.Host{Version: contract.Version, BootID: boot, Release: []string{mine, reused}})
		if err != nil {
			t.Fatal(err)
		}
		if err := Remove(t.Context(), h.env, h.pod(id)); err != nil {
			t.Errorf("%s: Remove() = %v", place, err)
		}
		if _, err := os.Stat(mine); err == nil {
			t.Errorf("%s: the claim is left", place)
		}
		if _, err := os.Stat(reused); err != nil {
			t.Errorf("%s: another pod's claim is gone: %v", place, err)
		}
		os.Remove(reused)
		h.wantGone()
	}
}

func TestClaimsOutsideOfTheFoldersOfRktAreLeftAlone(t *testing.T) {
	h := newHost(t)
	p := h.create("", pod.InRun)
	canary := filepath.Join(t.TempDir(), p.UUID().String())
	write(t, canary, p.UUID().String())
	for _, path := range []string{canary, h.env.RunDir + "/../" + filepath.Base(filepath.Dir(canary)) + "/" + p.UUID().String()} {
		err := contract.Write(p.Path(), contract.HostFile, contract.Host{Version: contract.Version, Release: []string{path}})
		if err != nil {
			t.Fatal(err)
		}
		if err := Remove(t.Context(), h.env, h.pod(p.UUID().String())); err == nil || !strings.Contains(err.Error(), "outside") {
			t.Errorf("Remove() = %v", err)
		}
		if _, err := os.Stat(canary); err != nil {
			t.Error(err)
		}
	}
}

func TestGCFollowsTheClock(t *testing.T) {
	h := newHost(t)
	fresh := h.create("", pod.InRun)
	old := h.create("", pod.InRun)
	exit := contract.Exit{Code: 0, Nanos: time.Now().Add(-time.Hour).UnixNano()}
	if err := contract.Write(filepath.Join(old.Path(), contract.AppsDir, "web"), contract.ExitFile, exit); err != nil {
		t.Fatal(err)
	}
	prepared := h.create("", pod.InPrepared)
	aborted := h.create("", pod.InPrepare)
	garbage := h.create("", pod.InGarbage)

	o := GCOptions{Grace: 30 * time.Minute, ExpirePrepared: 24 * time.Hour}
	mark := o
	mark.MarkOnly = true
	if _, err := GC(t.Context(), h.env, mark); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[*pod.Pod]pod.State{fresh: pod.ExitedGarbage, old: pod.ExitedGarbage, prepared: pod.Prepared, aborted: pod.Aborted, garbage: pod.Garbage} {
		h.wantState(p.UUID().String(), want)
	}
	done, err := GC(t.Context(), h.env, o)
	if err != nil {
		t.Fatal(err)
	}
	want := map[pod.UUID]GCAction{fresh.UUID(): GCKept, old.UUID(): GCRemoved, prepared.UUID(): GCKept, aborted.UUID(): GCRemoved, garbage.UUID(): GCRemoved}
	for _, c := range done {
		if c.Action != want[c.UUID] || c.Why == "" {
			t.Errorf("%+v, want %s", c, want[c.UUID])
		}
		delete(want, c.UUID)
	}
	if len(want) > 0 {
		t.Errorf("nothing is told of %v", want)
	}
	if _, err := GC(t.Context(), h.env, GCOptions{}); err != nil {
		t.Error(err)
	}
	h.wantGone()
	if again, err := GC(t.Context(), h.env, GCOptions{}); err != nil || len(again) != 0 {
		t.Errorf("the second gc: %v, %v", again, err)
	}
}

func TestGCLeavesRunningPodsAlone(t *testing.T) {
	h := newHost(t)
	s := h.run("good")
	done, err := GC(t.Context(), h.env, GCOptions{})
	if err != nil || len(done) != 1 || done[0].Action != GCKept {
		t.Errorf("GC() = %+v, %v", done, err)
	}
	h.wantState(s.uuid, pod.Running)
}

func TestGCCollectsEmbryos(t *testing.T) {
	h := newHost(t)
	p := h.create("", pod.InPrepare)
	if err := Remove(t.Context(), h.env, p); err != nil {
		t.Fatal(err)
	}
	embryos := filepath.Join(h.data, "pods", "embryo")
	for _, withLock := range []bool{false, true} {
		dir := filepath.Join(embryos, pod.NewUUID().String())
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if withLock {
			write(t, filepath.Join(dir, "lock"), "")
		}
	}
	if done, err := GC(t.Context(), h.env, GCOptions{}); err != nil || len(done) != 2 {
		t.Errorf("GC() = %v, %v", done, err)
	}
	h.wantGone()
}

func TestAPodWithADamagedContractIsCollected(t *testing.T) {
	for name, damage := range map[string]func(dir string) error{
		"pod.json":    func(dir string) error { return os.WriteFile(filepath.Join(dir, "pod.json"), []byte("{"), 0o600) },
		"no pod.json": func(dir string) error { return os.Remove(filepath.Join(dir, "pod.json")) },
		"host.json":   func(dir string) error { return os.WriteFile(filepath.Join(dir, "host.json"), []byte(`{"x":1}`), 0o600) },
		"link": func(dir string) error {
			os.Remove(filepath.Join(dir, "pod.json"))
			return os.Symlink("/etc/passwd", filepath.Join(dir, "pod.json"))
		},
		"fifo": func(dir string) error {
			os.Remove(filepath.Join(dir, "host.json"))
			return unix.Mkfifo(filepath.Join(dir, "host.json"), 0o600)
		},
		"no apps": func(dir string) error { return os.RemoveAll(filepath.Join(dir, "apps")) },
		"apps is file": func(dir string) error {
			os.RemoveAll(filepath.Join(dir, "apps"))
			return os.WriteFile(filepath.Join(dir, "apps"), nil, 0)
		},
		"no lock": func(dir string) error { return os.Remove(filepath.Join(dir, "lock")) },
		"only the lock": func(dir string) error {
			os.RemoveAll(filepath.Join(dir, "apps"))
			os.Remove(filepath.Join(dir, "host.json"))
			return os.Remove(filepath.Join(dir, "pod.json"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			p := h.create("", pod.InRun)
			claim := filepath.Join(h.env.RunDir, idsDir, "524288")
			if err := os.MkdirAll(filepath.Dir(claim), 0o700); err != nil {
				t.Fatal(err)
			}
			if name == "host.json" || name == "fifo" {
				write(t, claim, p.UUID().String()+"\n")
			}
			if err := damage(p.Path()); err != nil {
				t.Fatal(err)
			}
			if _, err := GC(t.Context(), h.env, GCOptions{}); err != nil {
				t.Error(err)
			}
			h.wantGone()
		})
	}
}

func TestAFailingStage1KeepsThePodForTheNextTry(t *testing.T) {
	h := newHost(t)
	p := h.create("", pod.InRun)
	fail := filepath.Join(p.Path(), "fail-gc")
	write(t, fail, "")
	done, err := GC(t.Context(), h.env, GCOptions{})
	if err == nil || !strings.Contains(err.Error(), "cannot release the widget") || done[0].Action != GCFailed {
		t.Errorf("GC() = %+v, %v", done, err)
	}
	h.wantState(p.UUID().String(), pod.ExitedGarbage)
	if err := os.Remove(filepath.Join(h.pod(p.UUID().String()).Path(), "..", "..", "exited-garbage", p.UUID().String(), "fail-gc")); err != nil {
		t.Fatal(err)
	}
	if _, err := GC(t.Context(), h.env, GCOptions{}); err != nil {
		t.Error(err)
	}
	h.wantGone()
}

func TestRemovalStopsAtAMountAndNamesIt(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	h := newHost(t)
	p := h.create("", pod.InRun)
	canary := t.TempDir()
	write(t, filepath.Join(canary, "precious"), "precious")
	inside := filepath.Join(p.Path(), contract.AppsDir, "web", contract.UpperDir, "inside")
	if err := os.Mkdir(inside, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(canary, inside, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	id := p.UUID().String()
	err := Remove(t.Context(), h.env, h.pod(id))
	left := filepath.Join(h.data, "pods", "garbage", id, contract.AppsDir, "web", contract.UpperDir, "inside")
	umountErr := unix.Unmount(left, unix.MNT_DETACH)
	if !errors.Is(err, safepath.ErrMount) || !strings.Contains(err.Error(), "inside") {
		t.Errorf("Remove() = %v, want ErrMount with the name", err)
	}
	if umountErr != nil {
		t.Fatalf("unmount %s: %v", left, umountErr)
	}
	if b, err := os.ReadFile(filepath.Join(canary, "precious")); err != nil || string(b) != "precious" {
		t.Errorf("the canary has %q, %v", b, err)
	}
	if _, err := GC(t.Context(), h.env, GCOptions{}); err != nil {
		t.Error(err)
	}
	h.wantGone()
}

func TestRemovalSurvivesHostileTrees(t *testing.T) {
	h := newHost(t)
	canary := t.TempDir()
	write(t, filepath.Join(canary, "precious"), "precious")
	p := h.create("", pod.InRun)
	upper := filepath.Join(p.Path(), contract.AppsDir, "web", contract.UpperDir)

	if err := os.Symlink(canary, filepath.Join(upper, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(upper, "closed", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(upper, "closed"), 0); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(upper, "immutable"), "x")
	if out, err := exec.Command("chattr", "+i", filepath.Join(upper, "immutable")).CombinedOutput(); err != nil {
		t.Logf("without an immutable file: %s", out)
	}
	deep, err := os.Open(upper)
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 { // beyond PATH_MAX
		const name = "a-name-of-some-length"
		if err := unix.Mkdirat(int(deep.Fd()), name, 0o700); err != nil {
			t.Fatal(err)
		}
		next, err := safepath.OpenBeneath(deep, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		deep.Close()
		deep = next
	}
	deep.Close()
	if _, err := GC(t.Context(), h.env, GCOptions{}); err != nil {
		t.Error(err)
	}
	h.wantGone()
	if b, err := os.ReadFile(filepath.Join(canary, "precious")); err != nil || string(b) != "precious" {
		t.Errorf("the canary has %q, %v", b, err)
	}
}

// A folder and a link to the canary change places while the pod is removed.
func TestRemovalWhileFoldersBecomeLinks(t *testing.T) {
	h := newHost(t)
	canary := t.TempDir()
	write(t, filepath.Join(canary, "precious"), "precious")
	p := h.create("", pod.InRun)
	upper, err := os.Open(filepath.Join(p.Path(), contract.AppsDir, "web", contract.UpperDir))
	if err != nil {
		t.Fatal(err)
	}
	defer upper.Close()
	for i := range 200 {
		dir := filepath.Join(upper.Name(), "d"+strconv.Itoa(i))
		if err := os.MkdirAll(filepath.Join(dir, "x", "y"), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "precious"), "copy")
		if err := os.Symlink(canary, filepath.Join(upper.Name(), "l"+strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	var swapper sync.WaitGroup
	swapper.Go(func() {
		for i := 0; ctx.Err() == nil; i = (i + 1) % 200 {
			unix.Renameat2(int(upper.Fd()), "d"+strconv.Itoa(i), int(upper.Fd()), "l"+strconv.Itoa(i), unix.RENAME_EXCHANGE)
		}
	})
	for range 100 {
		if _, err := GC(t.Context(), h.env, GCOptions{}); err == nil {
			break
		}
	}
	stop()
	swapper.Wait()
	if _, err := GC(t.Context(), h.env, GCOptions{}); err != nil {
		t.Error(err)
	}
	h.wantGone()
	if b, err := os.ReadFile(filepath.Join(canary, "precious")); err != nil || string(b) != "precious" {
		t.Errorf("the canary has %q, %v", b, err)
	}
}

// Nothing that removes pods may need room for it.
func TestGCOnAFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	h := newHost(t)
	if err := unix.Mount("tmpfs", h.data, "tmpfs", 0, "size=512k,nr_inodes=120"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(h.data, unix.MNT_DETACH) })
	for _, place := range []pod.Place{pod.InPrepare, pod.InPrepared, pod.InRun, pod.InExitedGarbage} {
		h.create("", place)
	}
	filler, err := os.Create(filepath.Join(h.data, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer filler.Close()
	for err == nil {
		_, err = filler.Write(make([]byte, 4096))
	}
	for i, err := 0, error(nil); err == nil; i++ {
		err = unix.Mkdir(filepath.Join(h.data, "filler"+strconv.Itoa(i)), 0o700)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if _, err := GC(t.Context(), h.env, GCOptions{}); err != nil {
		t.Error(err)
	}
	h.wantGone()
}

func TestManyCollectorsAtOnce(t *testing.T) {
	h := newHost(t)
	for i := range 40 {
		h.create("", []pod.Place{pod.InPrepare, pod.InPrepared, pod.InRun, pod.InExitedGarbage, pod.InGarbage}[i%5])
	}
	var all sync.WaitGroup
	for range 4 {
		env := *h.env
		d, err := pod.Open(h.data)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		env.Pods = d
		all.Go(func() {
			if _, err := GC(t.Context(), &env, GCOptions{}); err != nil {
				t.Error(err)
			}
		})
		all.Go(func() {
			var pods []*pod.Pod
			d.Walk(nil, func(p *pod.Pod) error {
				if q, err := d.Get(p.UUID()); err == nil {
					pods = append(pods, q)
				}
				return nil
			})
			for _, p := range pods {
				if err := Remove(t.Context(), &env, p); err != nil {
					t.Error(err)
				}
				p.Close()
			}
		})
	}
	all.Wait()
	if _, err := GC(t.Context(), h.env, GCOptions{}); err != nil {
		t.Error(err)
	}
	h.wantGone()
}

func TestGCInALoopNeverTakesAPodThatIsMade(t *testing.T) {
	h := newHost(t)
	// Nothing to collect in the loop: that would start a process, and a fork holds
	// the locks of this one until it execs.
	if err := Remove(t.Context(), h.env, h.create("", pod.InPrepare)); err != nil {
		t.Fatal(err)
	}
	d, err := pod.Open(h.data)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ctx, stop := context.WithCancel(t.Context())
	var collector sync.WaitGroup
	defer collector.Wait()
	defer stop()
	collector.Go(func() {
		for ctx.Err() == nil {
			if _, err := GC(t.Context(), h.env, GCOptions{Grace: time.Hour, ExpirePrepared: time.Hour}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 200 {
		p, err := d.Create("web")
		if err != nil {
			t.Fatal(err)
		}
		err = writePod(p, h.stage1)
		if err == nil {
			err = p.ToPrepared(false)
		}
		if err == nil {
			err = p.ToRun()
		}
		p.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	d.Walk(nil, func(*pod.Pod) error { n++; return nil })
	if n != 200 {
		t.Errorf("%d of 200 pods are left", n)
	}
}

func TestPodRootsNameWhatPodsNeed(t *testing.T) {
	h := newHost(t)
	for _, place := range []pod.Place{pod.InPrepare, pod.InPrepared, pod.InRun} {
		h.create("", place)
	}
	roots, err := PodRoots(h.env.Pods)
	if err != nil {
		t.Fatal(err)
	}
	for _, hex := range []string{strings.Repeat("1", 64), strings.Repeat("2", 64)} {
		d, err := cas.FromHex(hex)
		if err != nil {
			t.Fatal(err)
		}
		if len(roots[d]) != 3 || !strings.Contains(roots[d][0], `app "web"`) {
			t.Errorf("reasons for %s: %v", d, roots[d])
		}
	}
	prepared := h.create("", pod.InPrepared)
	write(t, filepath.Join(prepared.Path(), contract.AppsDir, "web", contract.AppFile), "{")
	if _, err := PodRoots(h.env.Pods); err == nil || !strings.Contains(err.Error(), prepared.UUID().String()) {
		t.Errorf("PodRoots() = %v, want an error that names the pod", err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
