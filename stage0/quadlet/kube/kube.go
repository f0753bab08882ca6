// Package kube reads the YAML of a Kubernetes pod: a Pod, or a Deployment of
// one, with the ConfigMaps and Secrets that it names. It says what rkt is to
// run. A field that it does not know is refused by its path; nothing is ignored
// but what means nothing on one machine.
//
// The package is pure: text in, data out.
package kube

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// File is a file to read.
type File struct {
	Path string
	Text []byte
}

// Pod is what is to be run.
type Pod struct {
	Name                string
	Labels, Annotations map[string]string
	Hostname            string
	HostNetwork         bool
	HostUsers           bool // with the host's ids
	Restart             string
	Grace               int64 // seconds, -1 = not said
	Sysctls             [][2]string
	Volumes             []Volume
	Containers          []Container
	Ports               []Port
	// security is what containers take over.
	security security
}

// The kinds of volumes.
const (
	VolumeHost   = "hostPath"
	VolumeEmpty  = "emptyDir"
	VolumeMemory = "memory"
	VolumeClaim  = "persistentVolumeClaim"
	VolumeFiles  = "files" // of a ConfigMap or a Secret
)

// Volume is a volume of the pod.
type Volume struct {
	Name, Kind string
	Source     string // path, or name of the claim
	Create     bool   // the path, if it is missing
	Size       string // of memory
	Files      []Item
	line       node
}

// Port is a port of the host that leads to one of the pod.
type Port struct {
	HostIP          netip.Addr // the zero value = every address
	Host, Container int
	Protocol        string // "tcp" or "udp"
}

// Item is a file of a volume.
type Item struct {
	Path string
	Mode uint32
	Data []byte
}

// Container is an app.
type Container struct {
	Name, Image, Pull string
	Command, Args     []string // nil = the image's
	WorkingDir        string
	Env               []Variable
	Mounts            []Mount
	Memory            string // bytes
	CPUMillis         int64
	CPUShares         int64
	ReadOnly          bool
	Escalate          bool
	Unconfined        bool // no seccomp filter
	CapsAdd, CapsDrop []string
	User, Group       string
	Groups            []string
}

// Variable is an environment variable.
type Variable struct {
	Name, Value string
	Secret      bool // not to be shown
}

// Mount puts a volume into a container.
type Mount struct {
	Volume, Path, SubPath string
	ReadOnly              bool
}

// Read reads the files, of which exactly one has a pod. Its errors are *Problem,
// joined.
func Read(files []File) (*Pod, error) {
	var all []object
	var problems []error
	for _, f := range files {
		r := &reader{file: f.Path}
		for _, doc := range r.documents(f.Text) {
			all = append(all, r.object(doc))
		}
		problems = append(problems, r.problems...)
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	c := &collection{data: make(map[string]map[string][]byte)}
	var workload []object
	for _, o := range all {
		switch o.kind {
		case "Pod", "Deployment":
			workload = append(workload, o)
		case "ConfigMap", "Secret":
			c.collect(o)
		case "PersistentVolumeClaim":
			o.spec("accessModes", "resources", "storageClassName", "volumeMode")
		default:
			o.node.fail("kind %q is not supported, known are Pod, Deployment, ConfigMap, Secret and PersistentVolumeClaim", o.kind)
		}
	}
	var pod *Pod
	switch len(workload) {
	case 0:
		problems = append(problems, &Problem{files[0].Path, 1, "there is no Pod in it"})
	case 1:
		pod = c.workload(workload[0])
	default:
		workload[1].node.fail("this is a second one; a file has one Pod or Deployment")
	}
	for _, o := range all {
		problems = append(problems, o.node.r.problems...)
		o.node.r.problems = nil
	}
	return pod, errors.Join(problems...)
}

// object is a document.
type object struct {
	node     node
	kind     string
	metadata metadata
	body     map[string]node // the fields beside those of every object
}

type metadata struct {
	name                string
	labels, annotations map[string]string
}

// object reads what every object has.
func (r *reader) object(doc node) object {
	o := object{node: doc, body: make(map[string]node)}
	known := fields{
		"apiVersion": only("v1", "apps/v1"),
		"kind":       func(n node) { o.kind = n.text() },
		"metadata":   func(n node) { o.metadata = readMetadata(n) },
		"status":     func(n node) { n.each(fields{}) }, // an empty one is written by tools
	}
	for _, name := range []string{"spec", "data", "binaryData", "stringData", "type", "immutable"} {
		known[name] = func(n node) { o.body[name] = n }
	}
	doc.each(known)
	return o
}

// only refuses the fields of an object that its kind does not have.
func (o object) only(names ...string) {
	for name, n := range o.body {
		if !slices.Contains(names, name) {
			n.fail("a %s has no such field", o.kind)
		}
	}
}

// spec accepts a spec with these fields, whatever they say.
func (o object) spec(names ...string) {
	o.only("spec")
	known := fields{}
	for _, name := range names {
		known[name] = anything
	}
	if n, ok := o.body["spec"]; ok {
		n.each(known)
	}
}

func readMetadata(n node) (m metadata) {
	n.each(fields{
		"name":              func(n node) { m.name = n.text() },
		"labels":            func(n node) { m.labels = readMap(n) },
		"annotations":       func(n node) { m.annotations = readMap(n) },
		"namespace":         anything, // one machine has one
		"creationTimestamp": anything,
	})
	return m
}

func readMap(n node) map[string]string {
	m := make(map[string]string)
	n.pairs(func(name string, value node) { m[name] = value.text() })
	return m
}

// validName is the grammar of names of containers and volumes (RFC 1123).
func validName(s string) bool {
	return s != "" && len(s) <= 63 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == "" && s[0] != '-'
}

// workload reads a Pod or a Deployment.
func (c *collection) workload(o object) *Pod {
	o.only("spec")
	spec, ok := o.body["spec"]
	if !ok {
		o.node.fail("it has no spec")
		return nil
	}
	if o.kind == "Pod" {
		return c.pod(o.metadata, spec)
	}
	var pod *Pod
	spec.each(fields{
		"replicas": func(n node) { n.number(1, 1) },
		"selector": anything, // there is one pod
		"template": func(n node) {
			var meta metadata
			n.each(fields{
				"metadata": func(n node) { meta = readMetadata(n) },
				"spec":     func(n node) { spec = n },
			})
			meta.name = o.metadata.name
			pod = c.pod(meta, spec)
		},
	})
	if pod == nil {
		spec.fail("it has no template")
	}
	return pod
}

// collection is what the files have beside the pod.
type collection struct {
	data map[string]map[string][]byte // "ConfigMap/name" -> key -> bytes
}

// of returns the data of an object.
func (c *collection) of(n node, kind, name string) (map[string][]byte, bool) {
	data, ok := c.data[kind+"/"+name]
	if !ok {
		n.fail("there is no %s %q in the files", kind, name)
	}
	return data, ok
}

// key returns one value of an object.
func (c *collection) key(n node, kind, name, key string) ([]byte, bool) {
	data, ok := c.of(n, kind, name)
	if !ok {
		return nil, false
	}
	value, ok := data[key]
	if !ok {
		n.fail("the %s %q has no key %q", kind, name, key)
	}
	return value, ok
}

// safeKey is the grammar of the keys of data: names of files.
func safeKey(s string) bool {
	if s == "" || s == "." || s == ".." || len(s) > 253 {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") == ""
}

func (c *collection) collect(o object) {
	id := fmt.Sprintf("%s/%s", o.kind, o.metadata.name)
	if _, twice := c.data[id]; twice {
		o.node.fail("there are two of %s", id)
	}
	data := make(map[string][]byte)
	c.data[id] = data
	if o.kind == "Secret" {
		o.only("data", "stringData", "type", "immutable")
	} else {
		o.only("data", "binaryData", "immutable")
	}
	for name, n := range o.body {
		if name == "type" || name == "immutable" {
			continue
		}
		n.pairs(func(key string, value node) {
			if !safeKey(key) {
				value.fail("%q is not a key", key)
				return
			}
			text := value.text()
			data[key] = []byte(text)
			if name == "binaryData" || name == "data" && o.kind == "Secret" {
				decoded, err := decodeBase64(text)
				if err != nil {
					value.fail("it is not base64")
				}
				data[key] = decoded
			}
		})
	}
}
