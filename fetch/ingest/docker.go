package ingest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	specs "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/opencontainers/go-digest"

	"rkt/cas"
	"rkt/fetch/ingest/fault"
	"rkt/fetch/wire"
	"rkt/image"
	"rkt/internal/strictjson"
)

// dockerFile lists the images of a docker archive.
const dockerFile = "manifest.json"

// dockerImage is one of them.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// dockerSource is an archive as `docker save` makes it. Its images have no
// manifest, so one is made for them, the same each time: the digests of layers
// that are not compressed are in the config already, the others are computed.
type dockerSource struct {
	in       *archive
	image    dockerImage
	config   []byte
	manifest []byte
	paths    map[cas.Digest]string // of layers
}

func newDockerSource(in *archive, s wire.Source) (_ *dockerSource, err error) {
	defer func() {
		if err != nil {
			in.close()
		}
	}()
	if !in.has(dockerFile) {
		return nil, fault.New(wire.CodeType, "it is neither an OCI image layout (it has no %s) nor a docker archive (it has no %s)", layoutFile, dockerFile)
	}
	b, err := readAll(in, dockerFile, image.MaxManifest)
	if err != nil {
		return nil, err
	}
	var images []dockerImage
	if err := strictjson.Decode(b, &images, strictjson.Options{AllowUnknown: true}); err != nil {
		return nil, fault.New(wire.CodeType, "read %s: %w", dockerFile, err)
	}
	d := &dockerSource{in: in, paths: map[cas.Digest]string{}}
	if d.image, err = chooseDocker(images, s.Tag); err != nil {
		return nil, err
	}
	if d.config, err = readAll(in, d.image.Config, image.MaxManifest); err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	return d, d.makeManifest()
}

// chooseDocker finds the image with the tag ("busybox:1", "docker.io/library/
// busybox:1" or just "1" where that is clear), or the only one.
func chooseDocker(images []dockerImage, tag string) (dockerImage, error) {
	var found []dockerImage
	var names []string
	for _, i := range images {
		names = append(names, i.RepoTags...)
		if tag == "" || slices.ContainsFunc(i.RepoTags, func(t string) bool { return sameTag(t, tag) }) {
			found = append(found, i)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case tag != "":
		return dockerImage{}, fault.New(wire.CodeNotFound, "%d images have the tag %q; there are %s", len(found), tag, listed(names))
	}
	return dockerImage{}, fault.New(wire.CodeNotFound, "%d images are in it, say which one: %s", len(found), listed(names))
}

func sameTag(has, want string) bool {
	short := func(s string) string {
		return strings.TrimPrefix(strings.TrimPrefix(s, "docker.io/"), "library/")
	}
	colon := strings.LastIndexByte(has, ':')
	return short(has) == short(want) || has[colon+1:] == want || has[:max(colon, 0)] == want && strings.HasSuffix(has, ":latest")
}

// makeManifest makes the manifest that the image does not have.
func (d *dockerSource) makeManifest() error {
	config, err := image.ParseConfig(d.config)
	if err != nil {
		return fault.New(wire.CodeType, "read config: %w", err)
	}
	if len(config.DiffIDs) != len(d.image.Layers) {
		return fault.New(wire.CodeDigest, "config has %d diff IDs for %d layers", len(config.DiffIDs), len(d.image.Layers))
	}
	m := v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: v1.MediaTypeImageManifest,
		Config:    descriptor(v1.MediaTypeImageConfig, cas.Of(d.config), int64(len(d.config))),
	}
	for i, path := range d.image.Layers {
		layer, err := d.describe(path, config.DiffIDs[i])
		if err != nil {
			return fmt.Errorf("layer %d of %d: %w", i+1, len(d.image.Layers), err)
		}
		m.Layers = append(m.Layers, layer)
	}
	d.manifest, err = json.Marshal(m)
	return err
}

// describe makes the descriptor of a layer.
func (d *dockerSource) describe(path string, diffID cas.Digest) (_ v1.Descriptor, err error) {
	c, err := d.in.open(path)
	if err != nil {
		return v1.Descriptor{}, err
	}
	defer closeInto(&err, c)
	magic := make([]byte, min(c.size, 16))
	if _, err := io.ReadFull(c, magic); err != nil {
		return v1.Descriptor{}, fmt.Errorf("read %.200q: %w", path, err)
	}
	packing, err := packing(magic)
	if err != nil {
		return v1.Descriptor{}, err
	}
	digest, mediaType := diffID, v1.MediaTypeImageLayer
	if packing != image.Plain {
		mediaType += "+" + string(packing)
		hash := sha256.New()
		if _, err := io.Copy(hash, io.MultiReader(bytes.NewReader(magic), c)); err != nil {
			return v1.Descriptor{}, fmt.Errorf("read %.200q: %w", path, err)
		}
		if digest, err = cas.FromHex(fmt.Sprintf("%x", hash.Sum(nil))); err != nil {
			return v1.Descriptor{}, err
		}
	}
	d.paths[digest] = path
	return descriptor(mediaType, digest, c.size), nil
}

func descriptor(mediaType string, d cas.Digest, size int64) v1.Descriptor {
	return v1.Descriptor{MediaType: mediaType, Digest: digest.Digest(d.String()), Size: size}
}

func (d *dockerSource) close() { d.in.close() }

func (d *dockerSource) root(context.Context) (document, error) {
	return document{d.manifest, v1.MediaTypeImageManifest}, nil
}

func (d *dockerSource) read(_ context.Context, want image.Descriptor) ([]byte, error) {
	return d.config, checkBytes(d.config, want)
}

func (d *dockerSource) layer(want image.Descriptor) []blob {
	return []blob{fileBlob(d.in, d.paths[want.Digest], want)}
}
