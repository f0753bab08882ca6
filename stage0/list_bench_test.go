package stage0

import (
	"testing"

	"golang.org/x/sys/unix"

	"rkt/stage0/pod"
)

// The budget of `rkt list` with 200 pods is 15 ms, of which this is the part
// that grows with the pods.
func BenchmarkStatusOf200Pods(b *testing.B) {
	h := newHost(b)
	for range 200 {
		h.create("", pod.InExitedGarbage)
	}
	before := cpuNanos(b)
	for b.Loop() {
		n := 0
		err := h.env.Pods.Walk(nil, func(p *pod.Pod) error {
			n++
			_, err := StatusOf(p)
			return err
		})
		if err != nil || n != 200 {
			b.Fatal(n, err)
		}
	}
	b.ReportMetric(float64(cpuNanos(b)-before)/float64(b.N), "cpu-ns/op")
}

// cpuNanos is the time that this process has been working, which, unlike the
// time of the clock, does not depend on what else the machine does.
func cpuNanos(b *testing.B) int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
