package fetch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"rkt/cas"
	"rkt/fetch/wire"
	"rkt/image"
)

// The test binary is rkt-fetch too, when it is started under that name: one
// that does what the tag, or the last part of the repository, says.
func TestMain(m *testing.M) {
	if os.Args[0] == "rkt-fetch" {
		switch f := newFake(); f.request.Mode {
		case wire.Inflate:
			f.read()
		case wire.Verify:
			f.verify()
		default:
			f.run()
		}
		return
	}
	os.Exit(m.Run())
}

// bundle is an image as both sides of a test know it.
type bundle struct {
	index, manifest, config []byte
	layers                  [][]byte
}

// newBundle makes an image of layers that are no tars: this package does not
// look into them.
func newBundle(layers ...string) bundle {
	host := image.Host()
	var b bundle
	var diffIDs []string
	var descriptors []map[string]any
	for _, l := range layers {
		b.layers = append(b.layers, []byte(l))
		diffIDs = append(diffIDs, cas.Of([]byte(l)).String())
		descriptors = append(descriptors, descriptor("application/vnd.oci.image.layer.v1.tar", []byte(l)))
	}
	b.config = document(map[string]any{
		"os": host.OS, "architecture": host.Architecture, "variant": host.Variant,
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
	})
	b.setManifest(descriptors)
	return b
}

func (b *bundle) setManifest(layers []map[string]any) {
	b.manifest = document(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"config": descriptor("application/vnd.oci.image.config.v1+json", b.config), "layers": layers,
	})
}

// setIndex makes an index with the manifests for this machine.
func (b *bundle) setIndex(manifests ...[]byte) {
	var list []map[string]any
	for _, m := range manifests {
		d := descriptor("application/vnd.oci.image.manifest.v1+json", m)
		d["platform"] = image.Host()
		list = append(list, d)
	}
	b.index = document(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": list,
	})
}

func descriptor(mediaType string, data []byte) map[string]any {
	return map[string]any{"mediaType": mediaType, "digest": cas.Of(data).String(), "size": len(data)}
}

func document(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// good is the image of most tests.
func good() bundle { return newBundle("layer zero", "layer one", "layer two") }

// fake is an rkt-fetch. It is as wicked as its folder and its pipes allow.
type fake struct {
	report, orders *os.File

	request     wire.Request
	what, spool string
}

func newFake() *fake {
	f := &fake{report: os.NewFile(wire.ReportFD, "report"), orders: os.NewFile(wire.OrderFD, "orders")}
	f.send(wire.Message{Type: wire.Confined, Total: uint64(wire.Role(os.Args[1]).Lines()), Text: "it is a fake"})
	request, err := wire.ReadRequest(f.orders)
	if err != nil {
		os.Exit(9)
	}
	f.request, f.spool = request, fmt.Sprintf("/proc/self/fd/%d", wire.SpoolFD)
	f.what = f.request.Source.Tag
	if f.request.Source.Kind == wire.Registry {
		f.what = path.Base(f.request.Source.Repository)
	}
	return f
}

func (f *fake) send(m wire.Message) {
	if wire.Send(f.report, m) != nil {
		os.Exit(8)
	}
}

func (f *fake) fail(code wire.Code, text string) {
	f.send(wire.Message{Type: wire.Failed, Code: code, Text: text})
	os.Exit(1)
}

func (f *fake) write(name string, data []byte) {
	if err := os.WriteFile(f.spool+"/"+name, data, 0o600); err != nil {
		f.fail(wire.CodeOther, err.Error())
	}
}

func (f *fake) documents(b bundle) {
	if b.index != nil {
		f.write(wire.IndexFile, b.index)
	}
	f.write(wire.ManifestFile, b.manifest)
	f.write(wire.ConfigFile, b.config)
	if f.request.Source.Signatures {
		f.write(wire.SignaturesFile, f.signatures())
	}
}

// layer sends a layer to who reads it, with what that one is to do.
func (f *fake) layer(i int, data []byte) {
	f.send(wire.Message{Type: wire.Need, Layer: uint32(i)})
	_, fd, err := wire.ReceiveGrant(wire.OrderFD)
	if err != nil {
		os.Exit(6)
	}
	deed := ""
	if i == 0 {
		deed = f.what
	}
	to := os.NewFile(uintptr(fd), "pipe")
	fmt.Fprintf(to, "%s\n%s", deed, data)
	f.send(wire.Message{Type: wire.Layer, Layer: uint32(i)})
	to.Close()
}

// read is the process that reads a layer, and as wicked.
func (f *fake) read() {
	b, err := io.ReadAll(os.NewFile(wire.SourceFD, "source"))
	if err != nil {
		f.fail(wire.CodeOther, err.Error())
	}
	deed, data, _ := strings.Cut(string(b), "\n")
	tar, facts := data, "facts of "+data
	switch deed {
	case "wrong-tar":
		tar = "other bytes"
	case "appended-byte":
		tar += "."
	case "no-facts":
		facts = ""
	case "reader-dies":
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		os.Exit(1)
	case "reader-fails":
		f.fail(wire.CodeLayer, "it is \x1b[2Jevil")
	case "reader-resolves":
		f.send(wire.Message{Type: wire.Resolved})
	case "reader-wants-the-world":
		f.send(wire.Message{Type: wire.Need, Bytes: 1 << 62, Total: 1 << 62})
		f.send(wire.Message{Type: wire.Need, Bytes: 1 << 62, Total: 1 << 62})
		_, _, _ = wire.ReceiveGrant(wire.OrderFD)
		f.hang()
	case "reader-exits-badly":
		defer os.Exit(3)
	}
	for fd, text := range map[int]string{wire.TarFD: tar, wire.FactsFD: facts} {
		if err := os.WriteFile(fmt.Sprintf("/proc/self/fd/%d", fd), []byte(text), 0); err != nil {
			f.fail(wire.CodeOther, err.Error())
		}
	}
	f.send(wire.Message{Type: wire.Done})
}

// order waits for the order.
func (f *fake) order() []bool {
	order, err := wire.ReceiveOrder(f.orders)
	if err != nil {
		os.Exit(7)
	}
	return order.Want
}

// run is what a good rkt-fetch does, with the bad deed of f.what at its place.
func (f *fake) run() {
	b := good()
	if f.before(&b) {
		return
	}
	f.misplace()
	f.send(wire.Message{Type: wire.Resolved})
	want := f.order()
	if f.afterOrder(b) {
		return
	}
	for i, w := range want {
		if !w || f.what == "lacks-a-layer" && i == 1 {
			continue
		}
		size := uint64(len(b.layers[i]))
		f.send(wire.Message{Type: wire.Progress, Layer: uint32(i), Bytes: size, Total: size})
		f.layer(i, b.layers[i])
		if f.what == "dies-between-layers" && i == 1 {
			f.die()
		}
	}
	f.send(wire.Message{Type: wire.Done})
	if f.what == "exits-badly" {
		os.Exit(3)
	}
}

// before writes the documents, wrong ones if that is the deed. true = over.
func (f *fake) before(b *bundle) bool {
	switch f.what {
	case "gate": // shared locks on the source wait for the test
		if err := syscall.Flock(wire.SourceFD, syscall.LOCK_SH); err != nil {
			os.Exit(6)
		}
	case "other-image":
		*b = newBundle("other layer")
	case "with-index":
		b.setIndex(b.manifest)
	case "index-chooses-another":
		b.setIndex(good().manifest, b.manifest)
		*b = bundle{b.index, newBundle("x").manifest, newBundle("x").config, nil}
	case "index-lies-about-size":
		b.setIndex(b.manifest)
		b.index = []byte(strings.Replace(string(b.index), fmt.Sprintf(`"size":%d`, len(b.manifest)), `"size":1`, 1))
	case "wrong-config":
		b.config = append(b.config, ' ')
	case "too-few-diff-ids":
		b.config = newBundle("layer zero", "layer one").config
		b.setManifest(layersOf(b.manifest))
	case "other-platform":
		b.config = []byte(strings.Replace(string(b.config), `"architecture":"`, `"architecture":"not`, 1))
		b.setManifest(layersOf(b.manifest))
	case "too-big-for-the-disk":
		layers := layersOf(b.manifest)
		layers[0]["size"] = int64(1) << 39
		b.setManifest(layers)
	case "huge-manifest":
		b.manifest = append(b.manifest, make([]byte, 5<<20)...)
	case "no-json":
		b.manifest = []byte("manifest")
	case "layer-first":
		f.send(wire.Message{Type: wire.Layer, Layer: 0})
	case "done-first":
		f.send(wire.Message{Type: wire.Done})
		return true
	case "garbage":
		_, _ = f.report.WriteString(strings.Repeat("garbage", 100))
	case "dies-first":
		os.Exit(0)
	case "flood-notes-first":
		for {
			f.send(wire.Message{Type: wire.Note, Text: "note"})
		}
	case "denied":
		f.fail(wire.CodeDenied, "no \x1b[2J\u202eentry")
	case "absent":
		f.fail(wire.CodeNotFound, "no such tag")
	}
	f.documents(*b)
	return false
}

func layersOf(manifest []byte) []map[string]any {
	var m struct{ Layers []map[string]any }
	if err := json.Unmarshal(manifest, &m); err != nil {
		panic(err)
	}
	return m.Layers
}

// misplace puts something else where a document is expected.
func (f *fake) misplace() {
	config, manifest := f.spool+"/"+wire.ConfigFile, f.spool+"/"+wire.ManifestFile
	var err error
	switch f.what {
	case "link-for-config":
		os.Remove(config)
		err = os.Symlink("/etc/passwd", config)
	case "hard-link-for-config":
		err = os.Link(config, f.spool+"/second")
	case "fifo-for-config":
		os.Remove(config)
		err = unix.Mkfifo(config, 0o600)
	case "folder-for-manifest":
		os.Remove(manifest)
		err = os.Mkdir(manifest, 0o700)
	case "device-for-manifest":
		os.Remove(manifest)
		err = unix.Mknod(manifest, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5)))
	case "no-config":
		err = os.Remove(config)
	}
	if err != nil {
		f.fail(wire.CodeOther, err.Error())
	}
}

// afterOrder does deeds that need no layer. true = over.
func (f *fake) afterOrder(b bundle) bool {
	switch f.what {
	case "dies-after-order":
		f.die()
	case "hangs":
		f.hang()
	case "layer-not-asked":
		f.send(wire.Message{Type: wire.Layer, Layer: 100})
	case "progress-not-asked":
		f.send(wire.Message{Type: wire.Progress, Layer: 3, Bytes: 1, Total: 1})
	case "layer-twice":
		f.layer(0, b.layers[0])
		f.send(wire.Message{Type: wire.Layer, Layer: 0})
	case "layer-sent-to-nobody":
		f.send(wire.Message{Type: wire.Layer, Layer: 0})
		f.hang()
	case "layer-given-and-not-there":
		f.send(wire.Message{Type: wire.Given, Layer: 0})
		f.hang()
	case "link-given", "hard-link-given", "fifo-given", "open-file-given":
		f.give(b.layers[0])
		f.hang()
	case "begins-for-ever":
		for {
			f.send(wire.Message{Type: wire.Need, Layer: 0})
		}
	case "resolves-again":
		f.send(wire.Message{Type: wire.Resolved})
	case "flood-notes":
		for {
			f.send(wire.Message{Type: wire.Note, Text: "note"})
		}
	case "flood-progress":
		for {
			f.send(wire.Message{Type: wire.Progress, Layer: 0, Bytes: 1, Total: 2})
		}
	case "disk-full":
		f.fail(wire.CodeSpace, "write layer: no space left on device")
	default:
		return false
	}
	f.send(wire.Message{Type: wire.Done})
	return true
}

// hang waits to be killed.
func (f *fake) hang() { _, _ = wire.ReceiveOrder(f.orders) }

// die ends without a word. As the first process of its pid namespace it cannot
// kill itself: from outside it looks the same.
func (f *fake) die() {
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	os.Exit(137)
}

// give gives layer 0 away as a tar in the folder, but not honestly.
func (f *fake) give(data []byte) {
	tar := f.spool + "/" + fmt.Sprintf(wire.LayerTar, 0)
	f.write(fmt.Sprintf(wire.LayerTar, 0), data)
	var err error
	switch f.what {
	case "link-given":
		err = errors.Join(os.Rename(tar, f.spool+"/real"), os.Symlink("real", tar))
	case "hard-link-given": // by which it could be changed afterwards
		err = os.Link(tar, f.spool+"/second")
	case "fifo-given":
		err = errors.Join(os.Remove(tar), unix.Mkfifo(tar, 0o600))
	case "open-file-given": // likewise
		var file *os.File
		file, err = os.OpenFile(tar, os.O_RDWR, 0)
		defer runtime.KeepAlive(file)
	}
	if err != nil {
		f.fail(wire.CodeOther, err.Error())
	}
	f.send(wire.Message{Type: wire.Given, Layer: 0})
	f.hang()
}
