package main

import (
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkRun is the time from the start of the supervisor to its end, for a
// pod of one app that does nothing.
func BenchmarkRun(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		p := newPod(b, []string{"true"})
		p.pod.Remove = true
		for _, dir := range p.host.Cgroup.V1 {
			os.Remove(filepath.Join(dir, "app.a"))
			os.Remove(dir)
		}
		p.host.Cgroup.V1 = nil
		b.StartTimer()
		if code, _, stderr := p.run(); code != 0 {
			b.Fatalf("exit code %d: %s", code, stderr)
		}
	}
}
