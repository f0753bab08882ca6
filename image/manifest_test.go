package image

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"rkt/cas"
)

func digestOf(s string) cas.Digest { return cas.Of([]byte(s)) }

func descriptor(mediaType, content string, size int) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, mediaType, digestOf(content), size)
}

func manifestOf(members ...string) string {
	return `{"schemaVersion":2,` + strings.Join(members, ",") + `}`
}

var (
	goodConfig = `"config":` + descriptor(typeOCIConfig, "config", 10)
	goodLayers = `"layers":[` + descriptor(typeOCILayer+"+gzip", "layer", 20) + `]`
)

func TestParseManifest(t *testing.T) {
	for name, c := range map[string]struct{ in, mediaType string }{
		"OCI":                    {manifestOf(goodConfig, goodLayers, `"mediaType":"`+typeOCIManifest+`"`), typeOCIManifest},
		"OCI without media type": {manifestOf(goodConfig, goodLayers), typeOCIManifest},
		"Docker": {manifestOf(`"mediaType":"`+typeDockerManifest+`"`, `"config":`+descriptor(typeDockerConfig, "config", 10),
			`"layers":[`+descriptor(typeDockerLayer+".gzip", "layer", 20)+`]`), typeDockerManifest},
		"with what is ignored": {manifestOf(goodConfig, goodLayers, `"subject":{"digest":"sha256:../x"},"annotations":{"digest":"no","x":"y"},"unknown":[[]]`), typeOCIManifest},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := ParseManifest([]byte(c.in))
			if err != nil {
				t.Fatal(err)
			}
			if m.MediaType != c.mediaType || m.Config.Digest != digestOf("config") || m.Config.Size != 10 ||
				len(m.Layers) != 1 || m.Layers[0].Digest != digestOf("layer") || m.Layers[0].Size != 20 {
				t.Errorf("ParseManifest() = %+v", m)
			}
			if got, ok := m.Layers[0].Compression(); !ok || got != Gzip {
				t.Errorf("Compression() = %q, %v", got, ok)
			}
			if index, err := IsIndex([]byte(c.in)); err != nil || index {
				t.Errorf("IsIndex() = %v, %v", index, err)
			}
		})
	}
}

func TestParseManifestRefuses(t *testing.T) {
	layer := func(mediaType string) string {
		return manifestOf(goodConfig, `"layers":[`+descriptor(mediaType, "layer", 20)+`]`)
	}
	sized := func(size string) string {
		return manifestOf(goodConfig, `"layers":[{"mediaType":"`+typeOCILayer+`","digest":"`+digestOf("layer").String()+`","size":`+size+`}]`)
	}
	withDigest := func(digest string) string {
		return manifestOf(goodConfig, `"layers":[{"mediaType":"`+typeOCILayer+`","digest":`+digest+`,"size":1}]`)
	}
	many := strings.TrimSuffix(strings.Repeat(descriptor(typeOCILayer, "l", 1)+",", MaxLayers+1), ",")
	for name, in := range map[string]string{
		"nothing":                    ``,
		"no object":                  `[]`,
		"a string":                   `"x"`,
		"cut off":                    manifestOf(goodConfig, goodLayers)[:50],
		"trailing data":              manifestOf(goodConfig, goodLayers) + "{}",
		"no version":                 `{` + goodConfig + `,` + goodLayers + `}`,
		"schema 1":                   `{"schemaVersion":1,"name":"x","fsLayers":[],"history":[]}`,
		"schema 3":                   strings.Replace(manifestOf(goodConfig, goodLayers), ":2", ":3", 1),
		"both kinds":                 manifestOf(goodConfig, goodLayers, `"manifests":[]`),
		"both kinds, one null":       manifestOf(goodConfig, goodLayers, `"manifests":null`),
		"index":                      manifestOf(`"manifests":[]`),
		"index media type":           manifestOf(goodConfig, goodLayers, `"mediaType":"`+typeOCIIndex+`"`),
		"other media type":           manifestOf(goodConfig, goodLayers, `"mediaType":"text/html"`),
		"artifact":                   manifestOf(goodConfig, goodLayers, `"artifactType":"application/x"`),
		"config of an artifact":      manifestOf(`"config":`+descriptor("application/vnd.oci.empty.v1+json", "{}", 2), goodLayers),
		"config too large":           manifestOf(`"config":`+descriptor(typeOCIConfig, "c", MaxManifest+1), goodLayers),
		"config null":                manifestOf(`"config":null`, goodLayers),
		"no config":                  manifestOf(goodLayers),
		"no layers":                  manifestOf(goodConfig),
		"empty layers":               manifestOf(goodConfig, `"layers":[]`),
		"null layers":                manifestOf(goodConfig, `"layers":null`),
		"null layer":                 manifestOf(goodConfig, `"layers":[null]`),
		"too many layers":            manifestOf(goodConfig, `"layers":[`+many+`]`),
		"encrypted layer":            layer(typeOCILayer + "+gzip+encrypted"),
		"foreign layer":              layer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
		"wasm layer":                 layer("application/vnd.wasm.content.layer.v1+wasm"),
		"layer without media type":   layer(""),
		"media type in another case": layer(strings.ToUpper(typeOCILayer)),
		"no size":                    sized("null"),
		"negative size":              sized("-1"),
		"size of a petabyte":         sized("1125899906842624"),
		"size beyond 64 bits":        sized("9223372036854775808"),
		"size 2^63-1":                sized("9223372036854775807"),
		"fractional size":            sized("1.5"),
		"size as text":               sized(`"1"`),
		"digest null":                withDigest("null"),
		"digest empty":               withDigest(`""`),
		"digest without digits":      withDigest(`"sha256:"`),
		"digest with slashes":        withDigest(`"sha256:../../../../../../../../../../../../../../etc/passwd0000000000"`),
		"digest in capitals":         withDigest(`"sha256:` + strings.ToUpper(digestOf("x").Hex()) + `"`),
		"digest too long":            withDigest(`"` + digestOf("x").String() + `0"`),
		"digest too short":           withDigest(`"` + digestOf("x").String()[:70] + `"`),
		"digest with a line end":     withDigest(`"` + digestOf("x").String() + `\n"`),
		"digest of another kind":     withDigest(`"sha512:` + strings.Repeat("0", 128) + `"`),
		"digest md5":                 withDigest(`"md5:` + strings.Repeat("0", 32) + `"`),
		"duplicate layers":           manifestOf(goodConfig, goodLayers, goodLayers),
		"duplicate key by escape":    manifestOf(goodConfig, goodLayers, `"l\u0061yers":[]`),
		"duplicate key far below":    manifestOf(goodConfig, goodLayers, `"x":[{"y":{"a":1,"a":2}}]`),
		"Layers":                     manifestOf(goodConfig, goodLayers, `"Layers":[]`),
		"MANIFESTS":                  manifestOf(goodConfig, goodLayers, `"MANIFESTS":[]`),
		"Digest in a descriptor":     strings.Replace(manifestOf(goodConfig, goodLayers), `"digest"`, `"Digest"`, 1),
		"too deep":                   manifestOf(goodConfig, goodLayers, `"x":`+strings.Repeat("[", 100_000)+strings.Repeat("]", 100_000)),
		"5 MB":                       manifestOf(goodConfig, goodLayers, `"x":"`+strings.Repeat("x", 5<<20)+`"`),
		"not UTF-8":                  manifestOf(goodConfig, goodLayers, "\"x\":\"\xff\""),
	} {
		if m, err := ParseManifest([]byte(in)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: ParseManifest() = %+v, %v, want ErrMalformed", name, m, err)
		} else if len(err.Error()) > 1000 {
			t.Errorf("%s: the error has %d bytes", name, len(err.Error()))
		}
	}
}

func TestParseIndexAndChoose(t *testing.T) {
	child := func(content, platform string) string {
		return strings.TrimSuffix(descriptor(typeOCIManifest, content, 5), "}") + `,"platform":{` + platform + `}}`
	}
	bare := func(content string) string { return descriptor(typeOCIManifest, content, 5) }
	linux := func(arch, variant string) string {
		return fmt.Sprintf(`"os":"linux","architecture":%q,"variant":%q`, arch, variant)
	}
	amd64v2 := Platform{OS: "linux", Architecture: "amd64", Variant: "v2"}
	arm := Platform{OS: "linux", Architecture: "arm", Variant: "v6"}
	arm64 := Platform{OS: "linux", Architecture: "arm64"}
	for name, c := range map[string]struct {
		entries []string
		on      Platform
		want    string // content of the chosen one, "" = ErrPlatform
	}{
		"by architecture":          {[]string{child("arm64", linux("arm64", "")), child("amd64", linux("amd64", ""))}, amd64v2, "amd64"},
		"best variant":             {[]string{child("v1", linux("amd64", "v1")), child("v3", linux("amd64", "v3")), child("v2", linux("amd64", "v2"))}, amd64v2, "v2"},
		"no variant too new":       {[]string{child("v3", linux("amd64", "v3"))}, amd64v2, ""},
		"first of equals":          {[]string{child("a", linux("amd64", "")), child("b", linux("amd64", ""))}, amd64v2, "a"},
		"other names":              {[]string{child("x", linux("x86_64", ""))}, amd64v2, "x"},
		"arm64 v8":                 {[]string{child("x", linux("arm64", "v8"))}, arm64, "x"},
		"arm64 8":                  {[]string{child("x", linux("aarch64", "8"))}, arm64, "x"},
		"arm, not newer":           {[]string{child("v7", linux("arm", "v7")), child("v5", linux("arm", "v5"))}, arm, "v5"},
		"arm without variant is 7": {[]string{child("x", linux("arm", ""))}, arm, ""},
		"other system":             {[]string{child("x", `"os":"windows","architecture":"amd64"`)}, amd64v2, ""},
		"attestation":              {[]string{child("a", `"os":"unknown","architecture":"unknown"`), child("x", linux("amd64", ""))}, amd64v2, "x"},
		"only an attestation":      {[]string{child("a", `"os":"unknown","architecture":"unknown"`)}, amd64v2, ""},
		"one without platform":     {[]string{bare("x")}, amd64v2, "x"},
		"two without platform":     {[]string{bare("x"), bare("y")}, amd64v2, ""},
		"platform wins":            {[]string{bare("x"), child("y", linux("amd64", ""))}, amd64v2, "y"},
		"other platform and none":  {[]string{bare("x"), child("y", linux("s390x", ""))}, amd64v2, ""},
		"empty":                    {nil, amd64v2, ""},
		"unknown type":             {[]string{strings.Replace(child("x", linux("amd64", "")), "manifest.v1", "other.v1", 1)}, amd64v2, ""},
		"artifact":                 {[]string{strings.TrimSuffix(child("x", linux("amd64", "")), "}") + `,"artifactType":"a/b"}`}, amd64v2, ""},
		"null platform":            {[]string{strings.TrimSuffix(bare("x"), "}") + `,"platform":null}`}, amd64v2, "x"},
	} {
		t.Run(name, func(t *testing.T) {
			doc := manifestOf(`"manifests":[` + strings.Join(c.entries, ",") + `]`)
			index, err := ParseIndex([]byte(doc))
			if err != nil {
				t.Fatal(err)
			}
			if is, err := IsIndex([]byte(doc)); err != nil || !is {
				t.Errorf("IsIndex() = %v, %v", is, err)
			}
			got, err := Choose(index, c.on)
			if c.want == "" {
				if !errors.Is(err, ErrPlatform) {
					t.Errorf("Choose() = %+v, %v, want ErrPlatform", got, err)
				}
				return
			}
			if err != nil || got.Digest != digestOf(c.want) {
				t.Errorf("Choose() = %+v, %v, want %q", got, err, c.want)
			}
		})
	}
}

func TestParseIndexRefuses(t *testing.T) {
	many := strings.TrimSuffix(strings.Repeat(descriptor(typeOCIManifest, "m", 1)+",", MaxEntries+1), ",")
	for name, in := range map[string]string{
		"manifest":            manifestOf(goodConfig, goodLayers),
		"both":                manifestOf(goodConfig, goodLayers, `"manifests":[]`),
		"with config":         manifestOf(goodConfig, `"manifests":[]`),
		"manifest media type": manifestOf(`"manifests":[]`, `"mediaType":"`+typeOCIManifest+`"`),
		"too many":            manifestOf(`"manifests":[` + many + `]`),
		"large manifest":      manifestOf(`"manifests":[` + descriptor(typeOCIManifest, "m", MaxManifest+1) + `]`),
		"bad digest":          manifestOf(`"manifests":[{"mediaType":"x","size":1,"digest":"sha256:../.."}]`),
		"bad ref name":        manifestOf(`"manifests":[{"mediaType":"x","size":1,"digest":"` + digestOf("x").String() + `","annotations":{"a":1}}]`),
	} {
		if got, err := ParseIndex([]byte(in)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: ParseIndex() = %+v, %v, want ErrMalformed", name, got, err)
		}
	}
}

// configOf makes a config with some members changed; nil takes one away.
func TestHostRunsItself(t *testing.T) {
	host := Host()
	if !host.Runs(host) || !host.Runs(Platform{OS: host.OS, Architecture: host.Architecture}) && host.Architecture != "arm" {
		t.Errorf("%v does not run itself", host)
	}
	if host.Runs(Platform{OS: "plan9", Architecture: host.Architecture}) {
		t.Errorf("%v runs plan9", host)
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(manifestOf(goodConfig, goodLayers)))
	f.Add([]byte(manifestOf(goodConfig, goodLayers, `"mediaType":"`+typeOCIManifest+`"`, `"annotations":{"a":"b"}`)))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest(b)
		if err != nil {
			return
		}
		if index, err := IsIndex(b); err != nil || index {
			t.Errorf("a manifest is an index too: %v", err)
		}
		if _, err := ParseIndex(b); err == nil {
			t.Error("a manifest parses as an index")
		}
		for _, d := range append(m.Layers, m.Config) {
			if d.Digest.IsZero() || d.Size < 0 || d.Size > MaxLayer {
				t.Errorf("accepted the descriptor %+v", d)
			}
		}
	})
}

func FuzzParseIndex(f *testing.F) {
	f.Add([]byte(manifestOf(`"manifests":[{"mediaType":"` + typeOCIManifest + `","size":1,"digest":"` + digestOf("x").String() + `","platform":{"os":"linux","architecture":"arm","variant":"7"}}]`)))
	f.Fuzz(func(t *testing.T, b []byte) {
		index, err := ParseIndex(b)
		if err != nil {
			return
		}
		d, err := Choose(index, Platform{OS: "linux", Architecture: "arm", Variant: "v7"})
		if err == nil && d.Digest.IsZero() {
			t.Error("chose nothing")
		}
	})
}
