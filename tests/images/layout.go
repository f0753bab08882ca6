package main

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	specs "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/opencontainers/go-digest"
)

// writeLayout makes the image r as an OCI image layout in dir, tagged "latest".
func writeLayout(r recipe, dir string) error {
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return err
	}
	cfg := v1.Image{Platform: v1.Platform{OS: "linux", Architecture: runtime.GOARCH}, RootFS: v1.RootFS{Type: "layers"}}
	cfg.Config = v1.ImageConfig{
		Entrypoint: r.Config.Entrypoint, Cmd: r.Config.Cmd, Env: r.Config.Env, User: r.Config.User, WorkingDir: r.Config.WorkingDir,
		StopSignal: r.Config.StopSignal, ExposedPorts: r.Config.ExposedPorts, Volumes: r.Config.Volumes, Labels: r.Config.Labels,
	}
	manifest := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest}
	for i, l := range r.Layers {
		d, diffID, err := writeLayer(l, blobs)
		if err != nil {
			return fmt.Errorf("layer %d: %w", i, err)
		}
		manifest.Layers = append(manifest.Layers, d)
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, diffID)
	}
	var err error
	if manifest.Config, err = writeJSON(blobs, v1.MediaTypeImageConfig, cfg); err != nil {
		return err
	}
	d, err := writeJSON(blobs, v1.MediaTypeImageManifest, manifest)
	if err != nil {
		return err
	}
	d.Annotations = map[string]string{v1.AnnotationRefName: "latest"}
	if err := os.WriteFile(filepath.Join(dir, v1.ImageLayoutFile), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644); err != nil {
		return err
	}
	b, err := json.Marshal(v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{d}})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, v1.ImageIndexFile), b, 0o644)
}

func writeJSON(blobs, mediaType string, v any) (v1.Descriptor, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return v1.Descriptor{}, err
	}
	d := digest.FromBytes(b)
	return v1.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}, os.WriteFile(filepath.Join(blobs, d.Encoded()), b, 0o644)
}

// writeLayer makes a layer's gzip'd tar in the folder blobs.
func writeLayer(l layer, blobs string) (_ v1.Descriptor, diffID digest.Digest, err error) {
	tmp := filepath.Join(blobs, "layer.tmp")
	f, err := os.Create(tmp)
	if err != nil {
		return v1.Descriptor{}, "", err
	}
	defer f.Close()
	packed, plain := sha256.New(), sha256.New()
	z := gzip.NewWriter(io.MultiWriter(f, packed))
	if err := writeTar(l, io.MultiWriter(z, plain), blobs); err != nil {
		return v1.Descriptor{}, "", err
	}
	if err := errors.Join(z.Close(), f.Sync()); err != nil {
		return v1.Descriptor{}, "", err
	}
	st, err := f.Stat()
	if err != nil {
		return v1.Descriptor{}, "", err
	}
	hexDigest := hex.EncodeToString(packed.Sum(nil))
	d := v1.Descriptor{MediaType: v1.MediaTypeImageLayerGzip, Digest: digest.NewDigestFromEncoded(digest.SHA256, hexDigest), Size: st.Size()}
	return d, digest.NewDigestFromBytes(digest.SHA256, plain.Sum(nil)), os.Rename(tmp, filepath.Join(blobs, hexDigest))
}

func writeTar(l layer, w io.Writer, scratch string) error {
	t := tar.NewWriter(w)
	if len(l.Packages) > 0 {
		if err := copyPackages(l, t, scratch); err != nil {
			return err
		}
	}
	for _, e := range l.Entries {
		if err := writeEntry(t, e); err != nil {
			return fmt.Errorf("%s: %w", e.Path, err)
		}
	}
	return t.Close()
}

// copyPackages writes the extracted packages of l to t, with links for the
// applets of busybox that are not there otherwise.
func copyPackages(l layer, t *tar.Writer, scratch string) error {
	path := filepath.Join(scratch, "packages.tar")
	defer os.Remove(path)
	if err := extract(l.Suite, l.Packages, path); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	replaced := map[string]bool{}
	for _, e := range l.Entries {
		replaced[e.Path] = true
	}
	seen := map[string]bool{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(h.Name, "./")
		seen[name] = true
		// One name twice in a layer is more than some programs take.
		if skipped(name) || replaced[strings.TrimSuffix(name, "/")] {
			continue
		}
		h.Format = tar.FormatPAX
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(t, r); err != nil {
			return err
		}
	}
	if !l.Busybox {
		return nil
	}
	return linkApplets(t, path, seen)
}

// skipped are the traces of the package manager and the device nodes that
// mmdebstrap makes.
func skipped(name string) bool {
	for _, p := range []string{"var/lib/apt/", "var/lib/dpkg/", "var/cache/", "var/log/", "dev/", "etc/apt/", "usr/share/doc/", "usr/share/man/"} {
		if strings.HasPrefix(name, p) && len(name) > len(p) {
			return true
		}
	}
	return name == "etc/hostname" || name == "etc/resolv.conf"
}

func linkApplets(t *tar.Writer, packages string, seen map[string]bool) error {
	scratch, err := os.MkdirTemp("", "applets")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	dir := "bin" // usr/bin since Debian 13
	if !seen["bin/busybox"] {
		dir = "usr/bin"
	}
	if out, err := exec.Command("tar", "-xf", packages, "-C", scratch, "./"+dir+"/busybox").CombinedOutput(); err != nil {
		return fmt.Errorf("extract busybox: %w: %s", err, out)
	}
	out, err := exec.Command(filepath.Join(scratch, dir, "busybox"), "--list").Output()
	if err != nil {
		return fmt.Errorf("list the applets of busybox: %w", err)
	}
	for _, applet := range strings.Fields(string(out)) {
		if seen["bin/"+applet] || seen["usr/bin/"+applet] || seen["sbin/"+applet] || applet == "busybox" {
			continue
		}
		if err := writeEntry(t, entry{Path: dir + "/" + applet, Type: "symlink", Link: "busybox"}); err != nil {
			return err
		}
	}
	return nil
}

func writeEntry(t *tar.Writer, e entry) error {
	h := &tar.Header{
		Name: e.Path, Linkname: e.Link, Mode: e.Mode, Uid: e.UID, Gid: e.GID, Typeflag: tar.TypeReg, Size: int64(len(e.Body)),
		ModTime: time.Unix(1700000000, 123456789), Format: tar.FormatPAX,
	}
	if e.Fill > 0 {
		h.Size = e.Fill
	}
	for k, v := range e.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.xattr."+k] = v
	}
	switch e.Type {
	case "dir":
		h.Typeflag, h.Name = tar.TypeDir, e.Path+"/"
	case "symlink":
		h.Typeflag, h.Mode = tar.TypeSymlink, 0o777
	case "hardlink":
		h.Typeflag = tar.TypeLink
	case "fifo":
		h.Typeflag = tar.TypeFifo
	case "char":
		h.Typeflag, h.Devmajor, h.Devminor = tar.TypeChar, 1, 3
	}
	if h.Mode == 0 && e.Type == "" {
		h.Mode = 0o644
	}
	if h.Mode == 0 && e.Type == "dir" && !strings.Contains(e.Path, "closed") {
		h.Mode = 0o755
	}
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	if e.Fill > 0 {
		_, err := io.Copy(t, io.LimitReader(pattern{}, e.Fill))
		return err
	}
	_, err := io.WriteString(t, e.Body)
	return err
}

// pattern is an endless reader of bytes that are not all alike.
type pattern struct{}

func (pattern) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(i * 131 >> 3)
	}
	return len(p), nil
}
