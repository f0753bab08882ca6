package ingest

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rkt/fetch/ingest/forge"
	"rkt/fetch/wire"
)

// layoutArchive is the image as an OCI layout in a tar.
func layoutArchive(t testing.TB, i *testImage) []byte {
	t.Helper()
	d := descriptorOf(ociManifest, i.blobs[i.manifest])
	entries := []forge.Entry{
		forge.Dir("blobs/"), forge.Dir("blobs/sha256/"),
		forge.File("index.json", string(encodeJSON(t, object{"schemaVersion": 2, "manifests": []object{d}}))),
	}
	for digest, b := range i.blobs {
		entries = append(entries, forge.File("./blobs/sha256/"+digest[len("sha256:"):], string(b)))
	}
	return forge.Tar(append(entries, forge.File("oci-layout", `{"imageLayoutVersion":"1.0.0"}`))...)
}

// dockerArchive is the image as docker save writes it: a shared layer is a link.
func dockerArchive(t testing.TB, i *testImage, packing string, tags ...string) []byte {
	t.Helper()
	config := i.config[len("sha256:"):] + ".json"
	entries := []forge.Entry{forge.File(config, string(i.blobs[i.config]))}
	var paths []string
	for n, tar := range i.tars {
		path := fmt.Sprintf("layer%d/layer.tar", n)
		entries = append(entries, forge.File(path, string(pack(t, packing, tar))))
		paths = append(paths, path)
	}
	entries = append(entries, forge.Symlink("alias/layer.tar", "../layer0/layer.tar"))
	paths[0] = "alias/layer.tar"
	list := []object{{"Config": config, "RepoTags": tags, "Layers": paths}}
	return forge.Tar(append(entries, forge.File("manifest.json", string(encodeJSON(t, list))))...)
}

// fileOf is b as a file, pipeOf as a pipe.
func fileOf(t testing.TB, b []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "archive")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func pipeOf(t testing.TB, b []byte) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer w.Close()
		io.Copy(w, bytes.NewReader(b))
	}()
	return r
}

func TestArchives(t *testing.T) {
	i := smallImage(t)
	archives := map[string]struct {
		b     []byte
		kinds []wire.Kind
	}{
		"oci":              {layoutArchive(t, i), []wire.Kind{wire.OCIArchive, wire.AnyArchive}},
		"docker":           {dockerArchive(t, i, "", "test:1"), []wire.Kind{wire.DockerArchive, wire.AnyArchive}},
		"docker with gzip": {dockerArchive(t, i, "gzip", "test:1"), []wire.Kind{wire.DockerArchive}},
	}
	for name, a := range archives {
		for _, kind := range a.kinds {
			for packing, b := range map[string][]byte{"plain": a.b, "gzip": pack(t, "gzip", a.b), "zstd": pack(t, "zstd", a.b)} {
				for way, open := range map[string]func(testing.TB, []byte) *os.File{"file": fileOf, "pipe": pipeOf} {
					t.Run(fmt.Sprintf("%s as %s, %s, %s", name, kind, packing, way), func(t *testing.T) {
						r := serveAll(t, wire.Request{Source: wire.Source{Kind: kind}}, open(t, b))
						r.wantImage(t, i)
						if left, _ := filepath.Glob(filepath.Join(r.dir, "source", "source-*")); len(left) != 0 {
							t.Errorf("files of the archive are left: %q", left)
						}
					})
				}
			}
		}
	}
}

func TestDockerArchiveIsTheSameEachTime(t *testing.T) {
	b := dockerArchive(t, smallImage(t), "", "a:1")
	one := serveAll(t, wire.Request{Source: wire.Source{Kind: wire.DockerArchive}}, fileOf(t, b))
	two := serveAll(t, wire.Request{Source: wire.Source{Kind: wire.DockerArchive}}, pipeOf(t, b))
	if got, want := two.file(t, wire.ManifestFile), one.file(t, wire.ManifestFile); !bytes.Equal(got, want) {
		t.Errorf("manifest = %s, then %s", want, got)
	}
}

func TestDockerTags(t *testing.T) {
	images := []dockerImage{{Config: "1", RepoTags: []string{"busybox:1.36", "busybox:latest"}}, {Config: "2", RepoTags: []string{"quay.io/a/b:v2"}}, {Config: "3"}}
	tests := map[string]string{ // tag: config, or words of the error
		"busybox:1.36":                     "1",
		"docker.io/library/busybox:latest": "1",
		"busybox":                          "1",
		"1.36":                             "1",
		"v2":                               "2",
		"quay.io/a/b:v2":                   "2",
		"v3":                               `"busybox:1.36", "busybox:latest", "quay.io/a/b:v2"`,
		"":                                 "3 images",
	}
	for tag, want := range tests {
		got, err := chooseDocker(images, tag)
		if got.Config != want && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("chooseDocker(%q) = %+v, %v, want %s", tag, got, err, want)
		}
	}
}

// TestArchivesRefused: IM-17.
func TestArchivesRefused(t *testing.T) {
	i := smallImage(t)
	docker := func(entries ...forge.Entry) []byte {
		return forge.Tar(append([]forge.Entry{forge.File("config", string(i.blobs[i.config]))}, entries...)...)
	}
	manifest := func(config string, layers ...string) forge.Entry {
		return forge.File("manifest.json", string(encodeJSON(t, []object{{"Config": config, "Layers": layers}})))
	}
	tests := map[string]struct {
		b     []byte
		code  wire.Code
		words string
	}{
		"nothing":               {nil, wire.CodeOther, "empty"},
		"other tar":             {forge.Tar(forge.File("a", "b")), wire.CodeType, "neither"},
		"no tar":                {bytes.Repeat([]byte("x"), 4096), wire.CodeLayer, "damaged"},
		"xz":                    {[]byte("\xfd7zXZ\x00 and so on"), wire.CodeType, "xz"},
		"cut off":               {dockerArchive(t, i, "")[:3000], wire.CodeLayer, "cut off"},
		"cut off gzip":          {pack(t, "gzip", dockerArchive(t, i, ""))[:3000], wire.CodeLayer, "decompress"},
		"layer upwards":         {docker(manifest("config", "../../x", "a", "b")), wire.CodeNotFound, "../../x"},
		"config upwards":        {docker(manifest("../../etc/shadow")), wire.CodeNotFound, "etc/shadow"},
		"entry upwards":         {docker(forge.File("../x", "")), wire.CodeLayer, "upwards"},
		"link upwards":          {docker(forge.Symlink("a", "../../etc/shadow")), wire.CodeLayer, "upwards"},
		"link out":              {docker(forge.Symlink("a", "/etc/shadow")), wire.CodeType, "leads out"},
		"links in a circle":     {docker(forge.Symlink("a", "b"), forge.Symlink("b", "a"), manifest("config", "a", "a", "a")), wire.CodeNotFound, "no \"a\""},
		"too few layers":        {docker(manifest("config", "config")), wire.CodeDigest, "3 diff IDs for 1"},
		"layer is another":      {docker(forge.File("l", string(i.tars[0])), manifest("config", "l", "l", "l")), wire.CodeDigest, "layer "},
		"sparse file":           {docker(forge.PAX("GNU.sparse.size", "1099511627776", "GNU.sparse.map", "0,0"), forge.File("s", "")), wire.CodeType, "sparse"},
		"manifest is no JSON":   {docker(forge.File("manifest.json", "{")), wire.CodeType, "manifest.json"},
		"config is no config":   {docker(forge.File("c", "{}"), manifest("c")), wire.CodeType, "config"},
		"manifest is too large": {docker(forge.File("manifest.json", strings.Repeat(" ", 5<<20))), wire.CodeTooLarge, "limit"},
	}
	for name, test := range tests {
		for way, open := range map[string]func(testing.TB, []byte) *os.File{"file": fileOf, "pipe": pipeOf} {
			t.Run(name+", "+way, func(t *testing.T) {
				r := serveAll(t, wire.Request{Source: wire.Source{Kind: wire.AnyArchive}}, open(t, test.b))
				r.wantFailure(t, test.code, test.words)
			})
		}
	}
}
