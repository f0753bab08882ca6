package kube

import (
	"math"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
)

func (c *collection) container(p *Pod, n node) Container {
	out := Container{Pull: "new"}
	sec := p.security
	n.each(fields{
		"name":            func(n node) { out.Name = n.text() },
		"image":           func(n node) { out.Image = n.text() },
		"imagePullPolicy": func(n node) { out.Pull = pull(n) },
		"command":         func(n node) { out.Command = n.texts() },
		"args":            func(n node) { out.Args = n.texts() },
		"workingDir":      func(n node) { out.WorkingDir = n.text() },
		"env":             func(n node) { n.items(func(n node) { c.variable(&out, n) }) },
		"envFrom":         func(n node) { n.items(func(n node) { c.variables(&out, n) }) },
		"ports":           func(n node) { n.items(func(n node) { port(p, n) }) },
		"volumeMounts":    func(n node) { n.items(func(n node) { out.Mounts = append(out.Mounts, mount(n)) }) },
		"resources":       func(n node) { resources(&out, n) },
		"securityContext": func(n node) { containerSecurity(&out, &sec, n) },
		"stdin":           falseOnly,
		"tty":             falseOnly,
	})
	if !validName(out.Name) {
		n.fail("the name %q is not that of a container", out.Name)
	}
	if out.Image == "" {
		n.fail("there is no image")
	}
	out.User, out.Group, out.Groups, out.Unconfined = sec.user, sec.group, sec.groups, sec.unconfined
	if out.Group != "" && out.User == "" {
		n.fail("runAsGroup needs runAsUser")
	}
	if sec.nonRoot && (out.User == "" || out.User == "0") {
		n.fail("runAsNonRoot needs runAsUser with another number than 0")
	}
	return out
}

func pull(n node) string {
	policies := map[string]string{"Always": "update", "IfNotPresent": "new", "Never": ""}
	policy, ok := policies[n.text()]
	if !ok {
		n.fail("%q is not supported, known are Always, IfNotPresent and Never", n.Value)
	}
	return policy
}

// port reads what a container listens on. Without a port of the host that is all.
func port(p *Pod, n node) {
	out := Port{Protocol: "tcp"}
	n.each(fields{
		"name":          func(n node) { n.text() },
		"containerPort": func(n node) { out.Container = int(n.number(1, math.MaxUint16)) },
		"hostPort":      func(n node) { out.Host = int(n.number(1, math.MaxUint16)) },
		"hostIP":        func(n node) { out.HostIP = address(n) },
		"protocol": func(n node) {
			only("TCP", "UDP", "SCTP")(n)
			out.Protocol = strings.ToLower(n.Value)
		},
	})
	switch {
	case out.Container == 0:
		n.fail("there is no containerPort")
	case out.Host == 0:
	case out.Protocol == "sctp" && !p.HostNetwork:
		n.fail("a port of SCTP cannot be published")
	default:
		p.Ports = append(p.Ports, out)
	}
}

// address reads an address of the host.
func address(n node) netip.Addr {
	ip, err := netip.ParseAddr(n.text())
	if err != nil || ip.Zone() != "" || ip.Is4In6() {
		n.fail("%q is no address", n.Value)
	}
	return ip
}

func mount(n node) (m Mount) {
	n.each(fields{
		"name":             func(n node) { m.Volume = n.text() },
		"mountPath":        func(n node) { m.Path = n.text() },
		"subPath":          func(n node) { m.SubPath = n.text() },
		"readOnly":         func(n node) { m.ReadOnly = n.truth() },
		"mountPropagation": only("None"),
	})
	if !path.IsAbs(m.Path) || strings.ContainsAny(m.Path, ":,\n") {
		n.fail("mountPath %q is not an absolute path without colon and comma", m.Path)
	}
	if m.SubPath != "" && !safePath(m.SubPath) {
		n.fail("subPath %q leaves the volume", m.SubPath)
	}
	return m
}

func resources(out *Container, n node) {
	n.each(fields{
		"limits": func(n node) {
			n.each(fields{
				"memory": func(n node) { out.Memory = size(n) },
				"cpu":    func(n node) { out.CPUMillis = millis(n) },
			})
		},
		"requests": func(n node) {
			n.each(fields{
				"memory": func(n node) { size(n) }, // a matter of where a pod is put
				"cpu":    func(n node) { out.CPUShares = min(max(millis(n)*1024/1000, 2), 262144) },
			})
		},
	})
}

// millis is a number of processors in thousandths.
func millis(n node) int64 {
	s := n.quantity()
	factor := 1000.0
	if number, ok := strings.CutSuffix(s, "m"); ok {
		s, factor = number, 1
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f*factor >= 1) || f > 1e6 {
		n.fail("%q is not a number of processors", n.Value)
		return 0
	}
	return int64(f * factor)
}

func containerSecurity(out *Container, sec *security, n node) {
	known := sec.fields()
	known["readOnlyRootFilesystem"] = func(n node) { out.ReadOnly = n.truth() }
	known["allowPrivilegeEscalation"] = func(n node) { out.Escalate = n.truth() }
	known["privileged"] = falseOnly
	known["capabilities"] = func(n node) {
		n.each(fields{
			"add":  func(n node) { out.CapsAdd = n.texts() },
			"drop": func(n node) { out.CapsDrop = n.texts() },
		})
		for _, name := range slices.Concat(out.CapsAdd, out.CapsDrop) {
			if name == "" || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_") != "" {
				n.fail("%q is not a capability", name)
			}
		}
	}
	n.each(known)
}

// variable reads one of env.
func (c *collection) variable(out *Container, n node) {
	var v Variable
	n.each(fields{
		"name":  func(n node) { v.Name = n.text() },
		"value": func(n node) { v.Value = n.text() },
		"valueFrom": func(n node) {
			n.each(fields{
				"configMapKeyRef": func(n node) { v.Value = c.keyRef(n, "ConfigMap") },
				"secretKeyRef":    func(n node) { v.Value, v.Secret = c.keyRef(n, "Secret"), true },
			})
		},
	})
	out.set(n, v)
}

// keyRef is the value that a reference to a key means.
func (c *collection) keyRef(n node, kind string) string {
	var name, key string
	n.each(fields{
		"name": func(n node) { name = n.text() },
		"key":  func(n node) { key = n.text() },
	})
	value, _ := c.key(n, kind, name, key)
	return string(value)
}

// variables reads one of envFrom.
func (c *collection) variables(out *Container, n node) {
	prefix := ""
	var sources []func()
	from := func(kind string) func(node) {
		return func(n node) {
			var name string
			n.each(fields{"name": func(n node) { name = n.text() }})
			sources = append(sources, func() {
				data, _ := c.of(n, kind, name)
				for _, key := range sortedKeys(data) {
					out.set(n, Variable{Name: prefix + key, Value: string(data[key]), Secret: kind == "Secret"})
				}
			})
		}
	}
	n.each(fields{
		"prefix":       func(n node) { prefix = n.text() },
		"configMapRef": from("ConfigMap"),
		"secretRef":    from("Secret"),
	})
	for _, add := range sources {
		add()
	}
}

func sortedKeys(m map[string][]byte) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// set adds a variable or replaces the one of that name.
func (out *Container) set(n node, v Variable) {
	if !safeKey(v.Name) || '0' <= v.Name[0] && v.Name[0] <= '9' {
		n.fail("%q is not the name of a variable", v.Name)
		return
	}
	if strings.ContainsRune(v.Value, 0) || v.Secret && strings.ContainsAny(v.Value, "\r\n") {
		n.fail("the value of %q has a character that it cannot have", v.Name)
		return
	}
	out.Env = slices.DeleteFunc(out.Env, func(old Variable) bool { return old.Name == v.Name })
	out.Env = append(out.Env, v)
}
