package quadlet

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"rkt/image"
)

// setImage takes the image of an app: a reference, or the name of a file.
func (a *app) setImage(e Entry) error {
	kind, isFile := KindOf(e.Value)
	if !isFile || kind != kindImage && kind != kindBuild {
		ref, err := checkReference(e.Path, e.Value)
		a.image = ref
		return err
	}
	s, err := a.run.c.needs(e, e.Value, kindImage, kindBuild)
	if err != nil {
		return err
	}
	a.pull = "" // it has its own unit
	a.run.want("Requires", unitOf(s))
	a.image, err = imageOf(s)
	return err
}

// checkReference refuses what rkt fetch would. Local images are named by an
// absolute path: a unit has no folder of its own.
func checkReference(from, ref string) (string, error) {
	transport, rest := "", ref
	for _, t := range []string{"oci:", "oci-archive:", "docker-archive:"} {
		if r, ok := strings.CutPrefix(ref, t); ok {
			transport, rest = t, r
		}
	}
	if transport != "" || strings.HasPrefix(ref, ".") || strings.HasPrefix(ref, "/") {
		p, err := absolute(from, rest)
		if err != nil {
			return "", err
		}
		ref = transport + p
	}
	if ref == "-" || strings.HasPrefix(ref, "-") {
		return "", fmt.Errorf("%q is not the name of an image", ref)
	}
	if hasSpecifier(ref) {
		for _, s := range []string{"%n", "%N", "%p", "%P", "%j", "%J"} {
			if strings.Contains(ref, s) {
				return "", fmt.Errorf("%q: the image is fetched by another unit, in which %s is another name", ref, s)
			}
		}
		return ref, nil
	}
	_, err := image.ParseRef(strings.ReplaceAll(ref, "%%", "%"))
	return ref, err
}

// setPull takes podman's pull policies. "newer" does not need the registry when
// the image is there.
func (a *app) setPull(e Entry) error {
	policies := map[string]string{"missing": "new", "always": "update", "newer": "newer", "never": ""}
	policy, ok := policies[e.Value]
	if !ok {
		return fmt.Errorf("unknown policy %q, known are missing, always, newer and never", e.Value)
	}
	if a.pull = policy; strings.HasSuffix(valueOf(a.file, "Container", "Image"), "."+kindImage) {
		return e.fail("Pull=%s: the policy is that of the .image file", e.Value)
	}
	return nil
}

func valueOf(f *File, section, key string) string {
	e, _ := f.value(section, key)
	return e.Value
}

// fetchFor makes the unit that fetches the image of an app before the unit of
// the app begins to start. Apps with the same image share it.
func (c *compiler) fetchFor(a *app) error {
	if a.pull == "" {
		return nil
	}
	want, policy := "Requires", a.pull
	if policy == "newer" {
		want, policy = "Wants", "update"
	}
	quiet := slices.Contains(a.run.unit, "After=network-online.target")
	key := fmt.Sprintf("%q %q %q %v", a.image, policy, a.insecure, quiet)
	name, made := c.fetches[key]
	if !made {
		name = fetchName(a.image, key)
		u := c.newService(a.src, name)
		u.unit = append(u.unit, "Description=Image "+a.image)
		if quiet && !local(a.image) {
			u.want("Wants", "network-online.target")
		}
		u.fetch(a.insecure, policy, a.image)
		if err := u.alone(); err != nil {
			return err
		}
		c.fetches[key] = name
	}
	a.run.want(want, instantiated(name)+".service")
	return nil
}

// fetchName is the name of the unit that fetches an image: what a person would
// recognise of it, and what makes it unique.
func fetchName(ref, key string) string {
	short := path.Base(strings.TrimRight(ref, "/"))
	short, _, _ = strings.Cut(short, "@")
	short = strings.Trim(cleanName(short), "-")
	name := fmt.Sprintf("rkt-image-%s-%.4x", short, sha256.Sum256([]byte(key)))
	if strings.Contains(ref, "%i") || strings.Contains(ref, "%I") {
		name += "@"
	}
	return name
}

// instantiated is the name under which an instance depends on a template.
func instantiated(name string) string {
	if strings.HasSuffix(name, "@") {
		return name + "%i"
	}
	return name
}

// local says whether an image comes from a file.
func local(ref string) bool {
	for _, t := range []string{"oci:", "oci-archive:", "docker-archive:", "/", "."} {
		if strings.HasPrefix(ref, t) {
			return true
		}
	}
	return false
}

// fetch adds the service that fetches an image. Its start has no time limit.
func (u *service) fetch(global []string, policy, ref string) {
	u.set("Type", "oneshot")
	u.set("SyslogIdentifier", "%N")
	u.exec("ExecStart", global, "fetch", "--pull-policy="+policy, ref)
}

// alone finishes a unit that no file speaks of.
func (u *service) alone() error {
	own := *u.src
	own.Source.File, own.members = &File{}, nil
	u.src = &own
	return u.finish()
}

// imageFile is an .image file that is being read.
type imageFile struct {
	ref, tag, policy string
	global           []string
}

// imageOf is the reference of an .image file for those who name it.
func imageOf(s *source) (string, error) {
	f := imageFile{policy: "new"}
	if err := apply(&f, s.File, "Image", imageRules()); err != nil {
		return "", err
	}
	if f.ref == "" {
		return "", errors.New("[Image] has no Image=")
	}
	if f.tag == "" || !local(f.ref) {
		return f.ref, nil
	}
	return f.ref + ":" + f.tag, nil
}

// image makes the unit of an .image file.
func (c *compiler) image(s *source) error {
	f := imageFile{policy: "new"}
	if err := apply(&f, s.File, "Image", imageRules()); err != nil {
		return err
	}
	ref, err := imageOf(s)
	if err != nil {
		return err
	}
	if f.tag != "" && !local(f.ref) {
		e, _ := s.File.value("Image", "ImageTag")
		return e.fail("ImageTag= is for images in archives and layouts")
	}
	u := c.newService(s, s.service)
	if !local(ref) {
		if err := u.network(); err != nil {
			return err
		}
	}
	u.fetch(f.global, f.policy, ref)
	return u.finish()
}

// imageRules are the keys of [Image].
func imageRules() []rule[*imageFile] {
	rules := []rule[*imageFile]{
		{key: "Image", do: func(f *imageFile, e Entry) (err error) { f.ref, err = checkReference(e.Path, e.Value); return }},
		{key: "ImageTag", do: func(f *imageFile, e Entry) error { f.tag = e.Value; return nil }},
		{key: "ServiceName", do: nothing[*imageFile]},
		{key: "Policy", do: func(f *imageFile, e Entry) error {
			policies := map[string]string{"missing": "new", "always": "update", "newer": "update", "never": "never"}
			var ok bool
			if f.policy, ok = policies[e.Value]; !ok {
				return fmt.Errorf("unknown policy %q, known are missing, always, newer and never", e.Value)
			}
			return nil
		}},
		{key: "TLSVerify", do: yes(func(f *imageFile, b bool) error {
			if !b {
				f.global = []string{"--insecure-options=tls"}
			}
			return nil
		})},
		{key: "AllTags", do: only[*imageFile]("name each image", "false", "no", "0")},
	}
	rules = append(rules, refused[*imageFile]("rkt fetches for the platform that it runs on", "Arch", "OS", "Variant")...)
	rules = append(rules, refused[*imageFile]("rkt reads credentials from /etc/rkt/auth.d, and certificates of registries from its configuration", "AuthFile", "CertDir", "Creds")...)
	rules = append(rules, refused[*imageFile]("rkt does not decrypt images", "DecryptionKey")...)
	rules = append(rules, refused[*imageFile](noModules, "ContainersConfModule")...)
	rules = append(rules, refused[*imageFile](noArguments, "PodmanArgs", "GlobalArgs")...)
	return append(rules, refused[*imageFile](ownRetries, "Retry", "RetryDelay")...)
}
