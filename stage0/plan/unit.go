package plan

import (
	"fmt"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"rkt/stage1/contract"
)

// maxHandedName is systemd's limit on the name of a socket or a credential.
const maxHandedName = 255

// unit decides who speaks to the service manager that will run the pod.
func (c *compiler) unit() error {
	mode, app, named := strings.Cut(c.spec.Notify, ":")
	p := &c.files.Pod
	switch p.Notify = contract.NotifyMode(mode); p.Notify {
	case "", contract.NotifyPod, contract.NotifyNo:
		if named {
			return fmt.Errorf("--sd-notify=%s: only \"app\" takes the name of an app", c.spec.Notify)
		}
		return nil
	case contract.NotifyApp:
	default:
		return fmt.Errorf("--sd-notify=%q is none of pod, app, app:NAME, no", c.spec.Notify)
	}
	switch {
	case named && !slices.Contains(c.names, app):
		return fmt.Errorf("--sd-notify=%s: there is no app %q, there is %s", c.spec.Notify, app, strings.Join(c.names, ", "))
	case !named && len(c.names) > 1:
		return fmt.Errorf("--sd-notify=app: the pod has %d apps; say which one, as in --sd-notify=app:%s", len(c.names), c.names[0])
	case !named:
		app = c.names[0]
	}
	c.speaker = app
	return nil
}

// handed decides what an app gets of what a service manager hands to the pod.
// Where nobody said anything, the only app gets everything; several apps are to
// be told apart by the operator.
func (c *compiler) handed(a *App, app *contract.App) error {
	app.Notify = c.speaker == app.Name
	for _, list := range []struct {
		flag string
		want []string
		into *[]string
	}{{"--listen-fds", a.Sockets, &app.Sockets}, {"--credentials", a.Credentials, &app.Credentials}} {
		switch {
		case list.want == nil && len(c.spec.Apps) == 1 && c.has[contract.FeatureUnit]:
			*list.into = []string{contract.Every}
			continue
		case slices.Contains(list.want, contract.Every) && len(list.want) > 1:
			return fmt.Errorf("%s: either all or names", list.flag)
		}
		for _, name := range list.want {
			if err := checkHandedName(name); err != nil {
				return fmt.Errorf("%s: %w", list.flag, err)
			}
			if list.flag == "--listen-fds" {
				if err := c.claimSocket(name, app.Name); err != nil {
					return err
				}
			}
		}
		*list.into = slices.Clone(list.want)
	}
	return nil
}

// checkHandedName is the grammar of the names of sockets (FileDescriptorName= in
// systemd.socket(5)) and of credentials, which are names of files.
func checkHandedName(name string) error {
	bad := strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ':' || r == '/' })
	if bad || name == "" || name == "." || name == ".." || len(name) > maxHandedName {
		return fmt.Errorf("%q is not a name", name)
	}
	return nil
}

// claimSocket refuses two apps that would take connections from each other.
func (c *compiler) claimSocket(name, app string) error {
	for other, by := range c.sockets {
		if by != app && (other == name || other == contract.Every || name == contract.Every) {
			return fmt.Errorf("--listen-fds: the apps %q and %q both take the socket %q", by, app, name)
		}
	}
	if c.sockets == nil {
		c.sockets = make(map[string]string)
	}
	c.sockets[name] = app
	return nil
}

// notifyMount puts the socket on which the app speaks to the service manager
// into the app. The socket is for all users of the app, so no id map is needed.
func (c *compiler) notifyMount(name string) []specs.Mount {
	if c.speaker != name {
		return nil
	}
	return []specs.Mount{{
		Destination: contract.NotifyPath, Type: "bind", Source: contract.AppsDir + "/" + name + "/" + contract.NotifyFile,
		Options: []string{"bind", "ro", "nosuid", "nodev", "noexec"},
	}}
}
