package tests

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"rkt/internal/crashtest"
)

// powerCutsVariable is the number of power cuts; `make test-powercut` makes many.
const powerCutsVariable = "RKT_TEST_POWER_CUTS"

// What a command has told its user is on the disk, whenever the power goes: C2,
// INV-1, INV-2, INV-3, INV-6 and INV-8.
func TestPowerCut(t *testing.T) {
	trials := 100
	if s := os.Getenv(powerCutsVariable); s != "" {
		var err error
		if trials, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	h := newHost(t)
	disk := crashtest.NewDisk(t, 96<<20)
	h.data, h.conf = filepath.Join(disk.Dir, "data"), filepath.Join(disk.Dir, "etc")
	if err := os.Mkdir(h.conf, 0o755); err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	p := &powerCut{host: h, disk: disk, random: rand.New(rand.NewPCG(seed, 0)), image: "oci:" + layout(t, "busybox")}
	p.settled = p.must("fetch", "oci:"+layout(t, "layers"))
	begin := time.Now()
	p.id = p.must("fetch", p.image)
	p.took = time.Since(begin)
	p.forget()

	kinds := []struct {
		name  string
		trial func()
	}{
		{"fetched", p.fetched}, {"fetching", p.fetching}, {"prepared", p.prepared}, {"preparing", p.preparing},
		{"trusted", p.trusted}, {"removed", p.removed}, {"collecting", p.collecting},
	}
	for n := range trials {
		kind := kinds[n%len(kinds)]
		kind.trial()
		if t.Failed() {
			t.Fatalf("after power cut %d, of the kind %q", n+1, kind.name)
		}
	}
	h.collect()
}

// powerCut is a store on a disk that loses its power again and again.
type powerCut struct {
	*host
	disk    *crashtest.Disk
	random  *rand.Rand
	image   string        // comes and goes
	id      string        // its ID
	took    time.Duration // to fetch it
	settled string        // the ID of an image that was there before
}

// cut cuts the power, now or when p has done a random part of its work, and
// looks at what is left.
func (c *powerCut) cut(running *process, within time.Duration) {
	c.t.Helper()
	if within > 0 {
		select {
		case <-running.exited:
		case <-time.After(time.Duration(c.random.Int64N(int64(within)))):
		}
	}
	c.disk.Cut(func() {
		if running != nil {
			running.cmd.Process.Kill()
			running.wait()
		}
		c.eventuallyNobody()
	})
	c.assertBlobs()
	c.must("fsck")
	if list := c.ids(); !strings.Contains(list, c.settled) {
		c.t.Errorf("the image that was there before is lost: %s", list)
	}
}

// eventuallyNobody waits for the processes that the dead one has left.
func (c *powerCut) eventuallyNobody() {
	c.t.Helper()
	eventually(c.t, func() error {
		if left := processes(c.data); len(left) > 0 {
			return fmt.Errorf("processes are left: %q", left)
		}
		return nil
	})
}

// assertBlobs looks at the blobs with other eyes than rkt's.
func (c *powerCut) assertBlobs() {
	c.t.Helper()
	files, err := filepath.Glob(filepath.Join(c.data, "cas/blobs/sha256/*"))
	if err != nil || len(files) == 0 {
		c.t.Errorf("no blobs are left: %v", err)
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			c.t.Fatal(err)
		}
		hash := sha256.New()
		_, err = io.Copy(hash, f)
		f.Close()
		if got := hex.EncodeToString(hash.Sum(nil)); err != nil || got != filepath.Base(file) {
			c.t.Errorf("blob %s has the content %s, %v", filepath.Base(file), got, err)
		}
	}
}

func (c *powerCut) ids() string {
	c.t.Helper()
	return c.must("image", "list", "--no-legend", "--fields=id", "--full")
}

// forget takes the image that comes and goes off the store.
func (c *powerCut) forget() {
	c.t.Helper()
	c.must("gc", "--grace-period=0", "--expire-prepared=0")
	if strings.Contains(c.ids(), c.id) {
		c.must("image", "rm", c.id)
	}
	c.must("gc", "--images")
}

// fetched: an ID that was printed is that of an image that can be run.
func (c *powerCut) fetched() {
	p := c.start("fetch", c.image)
	if got := p.line(); got != c.id {
		c.t.Fatalf("fetch printed %q, want %s", got, c.id)
	}
	c.cut(p, 0)
	if got := c.rkt("run", "--rm", "--pull-policy=never", c.image, "--", "echo", "alive"); got.stdout != "alive\n" {
		c.t.Errorf("the image that was fetched does not run: %s", got.stderr)
	}
	c.forget()
}

// fetching: what is not finished is done again.
func (c *powerCut) fetching() {
	c.cut(c.start("fetch", c.image), c.took)
	c.must("fetch", c.image)
	c.forget()
}

// prepared: a pod whose UUID was printed can be run.
func (c *powerCut) prepared() {
	c.must("fetch", c.image)
	p := c.start("prepare", "--quiet", c.image, "--", "echo", "alive")
	uuid := p.line()
	c.cut(p, 0)
	if got := c.rkt("run-prepared", uuid); got.stdout != "alive\n" {
		c.t.Errorf("pod %s, which was prepared, does not run: %s", uuid, got.stderr)
	}
	c.forget()
}

// preparing: a pod is there or it is not, and gc takes what is neither.
func (c *powerCut) preparing() {
	c.must("fetch", c.image)
	c.cut(c.start("prepare", "--quiet", c.image), c.took/4)
	c.must("list")
	c.forget()
	if left, _ := filepath.Glob(filepath.Join(c.data, "pods/*/*")); len(left) > 0 {
		c.t.Errorf("pods are left: %q", left)
	}
}

// trusted: a rule that was accepted holds.
func (c *powerCut) trusted() {
	const prefix = "registry.example/power"
	c.must("trust", "add", "--reject", prefix)
	c.cut(nil, 0)
	if list := c.must("trust", "list"); !strings.Contains(list, prefix) {
		c.t.Errorf("the rule is lost: %s", list)
	}
	c.must("trust", "rm", prefix)
	c.cut(nil, 0)
	if list := c.must("trust", "list"); strings.Contains(list, prefix) {
		c.t.Errorf("the rule is back: %s", list)
	}
}

// removed: an image that was removed does not come back.
func (c *powerCut) removed() {
	c.must("fetch", c.image)
	c.must("image", "rm", c.id)
	c.cut(nil, 0)
	if strings.Contains(c.ids(), c.id) {
		c.t.Error("the image that was removed is back")
	}
	c.forget()
}

// collecting: a sweep that was cut off has taken nothing that is needed.
func (c *powerCut) collecting() {
	c.must("fetch", c.image)
	c.must("image", "rm", c.id)
	c.cut(c.start("gc", "--images"), c.took/4)
	c.must("fetch", c.image)
	if got := c.must("run", "--rm", c.image, "--", "echo", "alive"); got != "alive" {
		c.t.Errorf("got %q", got)
	}
	c.forget()
}
