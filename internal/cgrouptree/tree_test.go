package cgrouptree

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// newTree makes a cgroup with two below it, each in the other, in each hierarchy
// that has one of the files.
func newTree(t *testing.T, files ...string) (trees [][]string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(own)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		for _, mount := range []string{"/sys/fs/cgroup/" + f[1], "/sys/fs/cgroup/unified"} {
			top := filepath.Join(mount, f[2], "rkt-test-"+strconv.Itoa(os.Getpid()))
			leaf := filepath.Join(top, "one", "two")
			if os.MkdirAll(leaf, 0o755) != nil {
				continue
			}
			t.Cleanup(func() { _ = Remove(top) })
			if slices.ContainsFunc(files, func(file string) bool { _, err := os.Stat(filepath.Join(leaf, file)); return err == nil }) {
				trees = append(trees, []string{top, filepath.Join(top, "one"), leaf})
			}
			break
		}
	}
	if len(trees) == 0 {
		t.Skipf("no cgroups with %v can be made here", files)
	}
	return trees
}

// sleeper is a process in the cgroup dir.
func sleeper(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-done })
	if err := WriteFile(filepath.Join(dir, "cgroup.procs"), strconv.Itoa(cmd.Process.Pid)); err != nil {
		t.Skip(err)
	}
	return cmd
}

// TestKillReachesFrozenProcesses ends processes on two levels, one of them frozen.
func TestKillReachesFrozenProcesses(t *testing.T) {
	for _, dirs := range newTree(t, "cgroup.freeze", "freezer.state") {
		t.Run(filepath.Dir(dirs[0]), func(t *testing.T) {
			outer, inner := sleeper(t, dirs[0]), sleeper(t, dirs[2])
			if os.WriteFile(filepath.Join(dirs[2], "freezer.state"), []byte("FROZEN"), 0) != nil {
				if err := WriteFile(filepath.Join(dirs[2], "cgroup.freeze"), "1"); err != nil {
					t.Fatal(err)
				}
			}
			want := []int{outer.Process.Pid, inner.Process.Pid}
			slices.Sort(want)
			if got, err := Processes(dirs[0]); err != nil || !slices.Equal(got, want) {
				t.Errorf("Processes() = %v, %v, want %v", got, err, want)
			}
			if err := Remove(dirs[0]); err == nil {
				t.Error("Remove() removes what has processes")
			}
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			if err := Kill(ctx, dirs[0]); err != nil {
				t.Fatal(err)
			}
			if err := Remove(dirs[0]); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(dirs[0]); err == nil {
				t.Error("the cgroup is left")
			}
		})
	}
}

// TestSealedTreesHaveNoChildren starts a process from one that is sealed in.
func TestSealedTreesHaveNoChildren(t *testing.T) {
	for _, dirs := range newTree(t, "pids.max") {
		if err := Seal(dirs[0]); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("sh", "-c", `echo $$ >"$0/cgroup.procs" && (true) && echo born`, dirs[2])
		if out, err := cmd.CombinedOutput(); err == nil || strings.Contains(string(out), "born") {
			t.Errorf("a process was born: %s", out)
		}
	}
}

func TestWhatIsGoneHasNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	pids, err := Processes(dir)
	if len(pids) > 0 || err != nil {
		t.Errorf("Processes() = %v, %v", pids, err)
	}
	if err := Kill(t.Context(), dir); err != nil {
		t.Errorf("Kill() = %v", err)
	}
	if err := Remove(dir); err != nil {
		t.Errorf("Remove() = %v", err)
	}
}

// TestStrangers lists a process that cannot be named here, and gives up on it.
func TestStrangers(t *testing.T) {
	dir := t.TempDir() // the lists are files like others
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0\n0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := Kill(ctx, dir); err == nil || !strings.Contains(err.Error(), "processes [0] do not die") {
		t.Errorf("Kill() = %v", err)
	}
}

func TestDeepTreesAreRefused(t *testing.T) {
	dir := t.TempDir()
	deep := dir + strings.Repeat("/d", maxDepth+1)
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Walk(dir, func(string) error { return nil }); err == nil {
		t.Error("Walk() goes deeper than it should")
	}
}
