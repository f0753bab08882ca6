package pod

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

func TestParseUUIDAcceptsOneSpelling(t *testing.T) {
	u := NewUUID()
	if got, err := ParseUUID(u.String()); err != nil || got != u {
		t.Errorf("ParseUUID(%q) = %v, %v", u, got, err)
	}
	if u.String()[14] != '4' || !strings.ContainsRune("89ab", rune(u.String()[19])) {
		t.Errorf("%s is not a random UUID (version 4)", u)
	}
	for _, s := range []string{
		"", ".", "..", "../../canary", strings.ToUpper("0f0f0f0f-0f0f-4f0f-8f0f-0f0f0f0f0f0f"),
		"0f0f0f0f0f0f4f0f8f0f0f0f0f0f0f0f", "{0f0f0f0f-0f0f-4f0f-8f0f-0f0f0f0f0f0f}",
		"0f0f0f0f-0f0f-4f0f-8f0f-0f0f0f0f0f0", "0f0f0f0f-0f0f-4f0f-8f0f-0f0f0f0f0f0f0",
		"0f0f0f0f/0f0f-4f0f-8f0f-0f0f0f0f0f0f", "0f0f0f0f-0f0f-4f0f-8f0f-0f0f0f0f0f0\n",
		strings.Repeat("a", 4096),
	} {
		if u, err := ParseUUID(s); err == nil {
			t.Errorf("ParseUUID(%.50q) = %v, want an error", s, u)
		}
	}
}

func TestStateOf(t *testing.T) {
	for _, tt := range []struct {
		place  Place
		holder Holder
		alive  bool
		want   State
	}{
		{InEmbryo, Nobody, false, Embryo},
		{InEmbryo, Runner, false, Embryo},
		{InPrepare, Runner, false, Preparing},
		{InPrepare, Nobody, false, Aborted},
		{InPrepare, Collector, false, Aborted},
		{InPrepared, Nobody, false, Prepared},
		{InPrepared, Runner, false, Prepared},
		{InPrepared, Collector, false, Prepared},
		{InRun, Runner, true, Running},
		{InRun, Runner, false, Running},
		{InRun, Nobody, true, Orphaned},
		{InRun, Nobody, false, Exited},
		{InRun, Collector, true, Orphaned},
		{InRun, Collector, false, Exited},
		{InExitedGarbage, Collector, false, Deleting},
		{InExitedGarbage, Nobody, true, Orphaned},
		{InExitedGarbage, Nobody, false, ExitedGarbage},
		{InGarbage, Collector, false, Deleting},
		{InGarbage, Runner, false, Deleting}, // stage1 removes its pod
		{InGarbage, Nobody, true, Orphaned},
		{InGarbage, Nobody, false, Garbage},
	} {
		got, err := stateOf(tt.place, tt.holder, func() (bool, error) { return tt.alive, nil })
		if err != nil || got != tt.want {
			t.Errorf("stateOf(%s, holder %d, alive %v) = %q, %v, want %q", tt.place, tt.holder, tt.alive, got, err, tt.want)
		}
	}
}

func TestReadingAnEmptyDataDirectoryWritesNothing(t *testing.T) {
	d := openDir(t)
	if _, err := d.Find("abc"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Find() = %v, want ErrNotFound", err)
	}
	if err := d.Walk(nil, func(*Pod) error { t.Error("there is a pod"); return nil }); err != nil {
		t.Error(err)
	}
	if entries, _ := os.ReadDir(d.data()); len(entries) != 0 {
		t.Errorf("the data directory has %v", entries)
	}
}

func TestStatesThroughALife(t *testing.T) {
	d := openDir(t)
	p := create(t, d, "web")
	seen := get(t, d, "web")
	wantState(t, seen, Preparing)
	if err := p.ToPrepared(true); err != nil {
		t.Fatal(err)
	}
	wantState(t, get(t, d, p.UUID().String()), Prepared)
	if err := p.ToRun(); err != nil {
		t.Fatal(err)
	}
	wantState(t, get(t, d, "web"), Running)
	if o, ok := get(t, d, "web").Owner(); !ok || o.PID != os.Getpid() {
		t.Errorf("Owner() = %+v, %v", o, ok)
	}
	p.Unlock()
	seen = get(t, d, "web")
	wantState(t, seen, Exited)
	if err := seen.LockToCollect(); err != nil {
		t.Fatal(err)
	}
	wantState(t, get(t, d, "web"), Exited) // it does not seem to run
	if err := seen.ToExitedGarbage(); err != nil {
		t.Fatal(err)
	}
	wantState(t, get(t, d, "web"), Deleting)
	seen.Unlock()
	wantState(t, get(t, d, "web"), ExitedGarbage)
}

func TestAPodOpenedBeforeItMovedIsSeenWhereItIs(t *testing.T) {
	d := openDir(t)
	p := create(t, d, "")
	early := get(t, d, p.UUID().String())
	if err := p.ToPrepared(false); err != nil {
		t.Fatal(err)
	}
	if err := p.ToRun(); err != nil {
		t.Fatal(err)
	}
	p.Unlock()
	wantState(t, early, Exited)
}

func TestForeignFilesAndLinksAreNotPods(t *testing.T) {
	d := openDir(t)
	p := create(t, d, "")
	canary := t.TempDir()
	run := filepath.Join(d.path, "run")
	link := NewUUID().String()
	file := NewUUID().String()
	for _, err := range []error{
		os.Symlink(canary, filepath.Join(run, link)),
		os.WriteFile(filepath.Join(run, file), nil, 0o600),
		os.WriteFile(filepath.Join(run, "notes.txt"), nil, 0o600),
		os.Mkdir(filepath.Join(run, strings.ToUpper(NewUUID().String())), 0o700),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var noted, visited []string
	err := d.Walk(func(path string, err error) { noted = append(noted, path) },
		func(p *Pod) error { visited = append(visited, p.UUID().String()); return nil })
	if err != nil || len(visited) != 1 || visited[0] != p.UUID().String() || len(noted) != 4 {
		t.Errorf("Walk() = %v, visited %v, noted %v", err, visited, noted)
	}
	for _, id := range []string{link, file} {
		if p, err := d.Find(id); err == nil {
			t.Errorf("Find(%q) opened %s", id, p.Path())
		}
	}
}

func TestFind(t *testing.T) {
	d := openDir(t)
	a, b := create(t, d, "one"), create(t, d, "")
	for word, want := range map[string]UUID{
		a.UUID().String(): a.UUID(),
		"one":             a.UUID(),
	} {
		p, err := d.Find(word)
		if err != nil || p.UUID() != want {
			t.Errorf("Find(%q) = %v, want %s", word, err, want)
			continue
		}
		p.Close()
	}
	shared := 0
	for a.UUID().String()[shared] == b.UUID().String()[shared] {
		shared++
	}
	if p := get(t, d, b.UUID().String()[:shared+1]); p.UUID() != b.UUID() {
		t.Errorf("a unique prefix found %s", p.UUID())
	}
	for _, word := range []string{"none", "..", ".", "../../canary", "run/" + a.UUID().String(), strings.Repeat("a", 4096), "-"} {
		if _, err := d.Find(word); !errors.Is(err, ErrNotFound) {
			t.Errorf("Find(%.40q) = %v, want ErrNotFound", word, err)
		}
	}
	if _, err := d.Find(""); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("Find(\"\") = %v", err)
	}
}

func TestAnAmbiguousPrefixListsThePods(t *testing.T) {
	d := openDir(t)
	if err := d.ensure(); err != nil {
		t.Fatal(err)
	}
	ids := []string{"12345678-0000-4000-8000-000000000001", "12345678-0000-4000-8000-000000000002"}
	for i, id := range ids {
		if err := os.Mkdir(filepath.Join(d.path, Place(InRun+Place(i)).String(), id), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	_, err := d.Find("1234")
	if !errors.Is(err, ErrAmbiguous) || !strings.Contains(err.Error(), ids[0]) || !strings.Contains(err.Error(), ids[1]) {
		t.Errorf("Find(1234) = %v", err)
	}
	if p := get(t, d, ids[1]); p.UUID().String() != ids[1] {
		t.Errorf("found %s", p.UUID())
	}
}

func TestDirectoriesArePrivateWhateverTheUmask(t *testing.T) {
	old := unix.Umask(0o777)
	defer unix.Umask(old)
	d := openDir(t)
	p := create(t, d, "x")
	for _, path := range []string{d.path, filepath.Dir(p.Path()), p.Path(), filepath.Join(d.path, namesDir)} {
		st, err := os.Stat(path)
		if err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %v, %v", path, st.Mode(), err)
		}
	}
}

func TestLookingNeverTakesTheLock(t *testing.T) {
	d := openDir(t)
	p := create(t, d, "")
	if err := p.ToPrepared(false); err != nil {
		t.Fatal(err)
	}
	p.Unlock()

	ctx, stop := context.WithCancel(context.Background())
	var lookers sync.WaitGroup
	for range 2 {
		looker := get(t, d, p.UUID().String())
		lookers.Go(func() {
			for ctx.Err() == nil {
				if _, err := looker.State(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 3000 {
		if err := p.Lock(); err != nil {
			t.Errorf("Lock() = %v while others only look", err)
			break
		}
		p.Unlock()
	}
	stop()
	lookers.Wait()
}

func TestTheLockGoesWithExecAndDiesWithTheProcess(t *testing.T) {
	d := openDir(t)
	o := start(t, "exec", d.data())
	d.ensure()
	p := get(t, d, o.said[0])
	wantState(t, p, Running)
	if err := p.Lock(); !errors.Is(err, ErrLocked) {
		t.Errorf("Lock() = %v, want ErrLocked", err)
	}
	if owner, ok := p.Owner(); !ok || owner.PID != o.Process.Pid {
		t.Errorf("Owner() = %+v, want pid %d", owner, o.Process.Pid)
	}
	o.kill()
	wantState(t, p, Exited)
	if err := p.Lock(); err != nil {
		t.Error(err)
	}
}

func TestKillAtEachStepLeavesATrueState(t *testing.T) {
	for part, want := range map[string]State{"prepare": Aborted, "prepared": Prepared, "run": Exited} {
		d := openDir(t)
		o := start(t, part, d.data())
		d.ensure()
		o.kill()
		wantState(t, get(t, d, o.said[0]), want)
	}
}

func TestOrphansAreAlive(t *testing.T) {
	d := openDir(t)
	p := create(t, d, "")
	app := start(t, "sleep", d.data())
	rec := startedAs(t, d, app.Process.Pid)
	writeApp(t, p, "a", contract.StartedFile, rec)
	if err := p.ToRun(); err != nil {
		t.Fatal(err)
	}
	id := p.UUID().String()
	p.Close()

	seen := get(t, d, id)
	wantState(t, seen, Orphaned)
	if s, err := seen.AppRun("a", Orphaned); err != nil || s.State != AppOrphaned {
		t.Errorf("AppRun() = %+v, %v", s, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := seen.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	wantState(t, seen, Exited) // although nobody has waited for the process yet
	if s, err := seen.AppRun("a", Exited); err != nil || s.State != AppExited {
		t.Errorf("AppRun() = %+v, %v", s, err)
	}
}

func TestANumberThatWasGivenOutAgainIsNotTheApp(t *testing.T) {
	d := openDir(t)
	stranger := start(t, "sleep", d.data())
	for name, change := range map[string]func(*contract.Started){
		"other start time": func(s *contract.Started) { s.StartTicks-- },
		"other boot":       func(s *contract.Started) { s.BootID = "b" },
		"no process":       func(s *contract.Started) { s.PID = 1 << 29 },
		"zero":             func(s *contract.Started) { s.PID = 0 },
		"negative":         func(s *contract.Started) { s.PID = -1 },
	} {
		p := create(t, d, "")
		rec := startedAs(t, d, stranger.Process.Pid)
		change(&rec)
		writeApp(t, p, "a", contract.StartedFile, rec)
		if err := p.ToRun(); err != nil {
			t.Fatal(err)
		}
		p.Unlock()
		wantState(t, p, Exited)
		if err := p.Kill(context.Background()); err != nil {
			t.Errorf("%s: Kill() = %v", name, err)
		}
	}
	if err := stranger.Process.Signal(unix.Signal(0)); err != nil {
		t.Errorf("the stranger was killed: %v", err)
	}
}

func TestAppStateFollowsTheLastStart(t *testing.T) {
	d := openDir(t)
	p := create(t, d, "")
	if s, err := p.AppRun("a", Running); err != nil || s.State != AppCreated {
		t.Errorf("AppRun() = %+v, %v, want created", s, err)
	}
	writeApp(t, p, "a", contract.StartedFile, contract.Started{PID: 1, Restarts: 1})
	writeApp(t, p, "a", contract.ExitFile, contract.Exit{Code: 3, Restarts: 0})
	if s, err := p.AppRun("a", Running); err != nil || s.State != AppRunning {
		t.Errorf("AppRun() = %+v, %v, want running after a restart", s, err)
	}
	writeApp(t, p, "a", contract.ExitFile, contract.Exit{Code: 3, Restarts: 1})
	if s, err := p.AppRun("a", Running); err != nil || s.State != AppExited {
		t.Errorf("AppRun() = %+v, %v, want exited", s, err)
	}
}

func TestAwaitEnd(t *testing.T) {
	d := openDir(t)
	o := start(t, "run", d.data())
	d.ensure()
	p := get(t, d, o.said[0])
	app := start(t, "sleep", d.data())
	writeApp(t, p, "a", contract.StartedFile, startedAs(t, d, app.Process.Pid))

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- p.AwaitEnd(ctx) }()
	for _, step := range []*other{o, app} {
		select {
		case err := <-ended:
			t.Fatalf("AwaitEnd() = %v while something is alive", err)
		default:
		}
		step.kill()
	}
	if err := <-ended; err != nil {
		t.Errorf("AwaitEnd() = %v", err)
	}

	short, cancelShort := context.WithTimeoutCause(context.Background(), time.Millisecond, errors.New("too long"))
	defer cancelShort()
	q := create(t, d, "")
	seen := get(t, d, q.UUID().String())
	if err := seen.AwaitEnd(short); err == nil || err.Error() != "too long" {
		t.Errorf("AwaitEnd() = %v, want the cause of the context", err)
	}
}

func TestAwaitEndOfAPreparedPodWaitsForItsRun(t *testing.T) {
	d := openDir(t)
	p := create(t, d, "")
	if err := p.ToPrepared(false); err != nil {
		t.Fatal(err)
	}
	seen := get(t, d, p.UUID().String())
	p.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- seen.AwaitEnd(ctx) }()
	if err := p.Lock(); err != nil {
		t.Fatal(err)
	}
	if err := p.ToRun(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		t.Errorf("AwaitEnd() = %v while the pod runs", err)
	default:
	}
	p.Unlock()
	if err := <-ended; err != nil {
		t.Errorf("AwaitEnd() = %v", err)
	}
}

func TestAwaitReady(t *testing.T) {
	d := openDir(t)
	p := create(t, d, "")
	if err := p.ToRun(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	seen := get(t, d, p.UUID().String())
	ready := make(chan error, 1)
	go func() { ready <- seen.AwaitReady(ctx) }()
	if err := contract.Write(p.Path(), contract.ReadyFile, contract.Ready{PID: 1}); err != nil {
		t.Fatal(err)
	}
	if err := <-ready; err != nil {
		t.Errorf("AwaitReady() = %v", err)
	}

	q := create(t, d, "")
	if err := q.ToRun(); err != nil {
		t.Fatal(err)
	}
	seen = get(t, d, q.UUID().String())
	go func() { ready <- seen.AwaitReady(ctx) }()
	q.Unlock()
	if err := <-ready; !errors.Is(err, ErrEnded) {
		t.Errorf("AwaitReady() = %v, want ErrEnded", err)
	}
}
