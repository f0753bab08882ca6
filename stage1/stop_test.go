package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"rkt/stage1/contract"
)

// TestStopRestarting stops pods whose app ends at once and is started again, at
// ever later moments of that: each must say that the end is under way, however
// fast it comes.
func TestStopRestarting(t *testing.T) {
	for i := range 60 {
		p := newPod(t, []string{"false"})
		p.apps["a"].Restart = contract.Restart{Policy: contract.RestartAlways}
		p.pod.Remove = i%2 == 0
		r := p.start()
		p.await(filepath.Join(contract.AppsDir, "a", contract.StartedFile))
		for end := time.Now().Add(time.Duration(i) * 2 * time.Millisecond); time.Now().Before(end); {
		}
		if out, err := p.entry("stop").CombinedOutput(); err != nil {
			t.Errorf("stop after %d ms: %v: %s", 2*i, err, out)
		}
		if code := r.wait(); code != 1 && code != 143 {
			t.Errorf("exit code %d, want 1; stderr %q", code, r.stderr.String())
		}
		p.checkClean()
		if _, err := os.Stat(p.dir); p.pod.Remove == (err == nil) {
			t.Errorf("the pod directory exists: %t, want %t", err == nil, !p.pod.Remove)
		}
	}
}
