package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	cni "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"

	"rkt/internal/atomicfile"
	"rkt/stage1/contract"
)

// cniDir in the pod directory holds, for each interface of a network of CNI, the
// configuration that its plugins were given, from before the first of them ran,
// and what libcni remembers.
const cniDir = "cni"

// maxConfig bounds a configuration of CNI.
const maxConfig = 1 << 20

// findList finds the configuration of a network, nil if there is none. Folders and
// files that others than root could have written are an error: plugins run as root.
func (h *Host) findList(name string) (*libcni.NetworkConfigList, error) {
	var broken []error
	for _, dir := range h.ConfigDirs {
		files, err := libcni.ConfFiles(dir, []string{".conf", ".conflist", ".json"})
		if err != nil {
			return nil, fmt.Errorf("look for networks: %w", err)
		}
		slices.Sort(files)
		for _, file := range files {
			list, err := readList(file)
			if err != nil {
				broken = append(broken, fmt.Errorf("%s: %w", file, err))
				continue
			}
			if list.Name != name {
				continue
			}
			if err := errors.Join(trusted(dir), trusted(file)); err != nil {
				return nil, err
			}
			return list, nil
		}
	}
	if _, ok := builtin(name); ok {
		return nil, nil
	}
	return nil, errors.Join(broken...)
}

// readList reads a configuration, of several plugins or of one.
func readList(file string) (*libcni.NetworkConfigList, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxConfig {
		return nil, fmt.Errorf("is no regular file of at most %d bytes", maxConfig)
	}
	if strings.HasSuffix(file, ".conflist") {
		return libcni.ConfListFromFile(file)
	}
	conf, err := libcni.ConfFromFile(file)
	if err != nil {
		return nil, err
	}
	return libcni.ConfListFromConf(conf)
}

// trusted says whether only root can write to a file or folder.
func trusted(path string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Uid != 0 || st.Mode&0o022 != 0 {
		return fmt.Errorf("%s can be written by others than root: chown root and chmod go-w it", path)
	}
	return nil
}

// joinList attaches the pod to a network of CNI.
func (t *task) joinList(ctx context.Context, list *libcni.NetworkConfigList, n contract.Network, ifname string) error {
	dir := filepath.Join(t.dir, cniDir)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := atomicfile.Write(dir, ifname+".conflist", list.Bytes, 0o600, false); err != nil {
		return fmt.Errorf("keep configuration: %w", err)
	}
	c := t.libcni()
	if err := c.GetStatusNetworkList(ctx, list); err != nil {
		return fmt.Errorf("it is not ready: %w", err)
	}
	got, err := c.AddNetworkList(ctx, list, t.runtimeConf(n, ifname))
	if err != nil {
		return err
	}
	result, err := cni.NewResultFromResult(got)
	if err != nil {
		return fmt.Errorf("understand result: %w", err)
	}
	i := contract.Interface{Network: n.Name, Name: ifname}
	for _, own := range result.Interfaces {
		switch {
		case own.Sandbox == "" && i.Host == "" && own.Mac != "":
			i.Host = own.Name
		case own.Sandbox != "" && own.Name == ifname:
			i.MAC = own.Mac
		}
	}
	for _, ip := range result.IPs {
		a, ok := netip.AddrFromSlice(ip.Address.IP)
		ones, _ := ip.Address.Mask.Size()
		if !ok {
			return errors.New("understand result: it has an address that is none")
		}
		i.Addresses = append(i.Addresses, netip.PrefixFrom(a.Unmap(), ones).String())
		if g, ok := netip.AddrFromSlice(ip.Gateway); ok {
			i.Gateways = append(i.Gateways, g.Unmap().String())
		}
	}
	t.out.Interfaces = append(t.out.Interfaces, i)
	if d := result.DNS; len(d.Nameservers) > 0 {
		search := d.Search
		if len(search) == 0 && d.Domain != "" {
			search = []string{d.Domain}
		}
		t.dns = append(t.dns, contract.DNS{Servers: d.Nameservers, Search: search, Options: d.Options})
	}
	return t.save()
}

// leaveLists takes the pod from all networks of CNI that it was begun to be
// attached to, the last one first, with the configurations of then.
func (t *task) leaveLists(ctx context.Context) error {
	var errs []error
	c := t.libcni()
	for i, n := range slices.Backward(t.pod.Net.Networks) {
		ifname := fmt.Sprintf("eth%d", i)
		file := filepath.Join(t.dir, cniDir, ifname+".conflist")
		list, err := readList(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = c.DelNetworkList(ctx, list, t.runtimeConf(n, ifname))
		}
		if err == nil {
			err = os.Remove(file)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("network %q: %w", n.Name, err))
		}
	}
	return errors.Join(errs...)
}

func (t *task) libcni() *libcni.CNIConfig {
	return libcni.NewCNIConfigWithCacheDir(t.PluginDirs, filepath.Join(t.dir, cniDir), &executor{dirs: t.PluginDirs, limit: pluginLimit})
}

// runtimeConf is what the plugins are told of the pod.
func (t *task) runtimeConf(n contract.Network, ifname string) *libcni.RuntimeConf {
	rt := &libcni.RuntimeConf{ContainerID: t.pod.UUID, IfName: ifname, Args: [][2]string{{"IgnoreUnknown", "1"}}}
	if t.netns >= 0 {
		rt.NetNS = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), t.netns)
	}
	for _, arg := range n.Args {
		key, value, _ := strings.Cut(arg, "=")
		rt.Args = append(rt.Args, [2]string{key, value})
	}
	type mapping struct {
		HostPort      int    `json:"hostPort"`
		ContainerPort int    `json:"containerPort"`
		Protocol      string `json:"protocol"`
		HostIP        string `json:"hostIP,omitempty"`
	}
	var ports []mapping
	for _, p := range t.pod.Net.Ports {
		// Loopback is the supervisor's.
		if ip, err := netip.ParseAddr(p.HostIP); err == nil && !ip.IsLoopback() {
			ports = append(ports, mapping{p.HostPort, p.PodPort, p.Protocol, p.HostIP})
		}
	}
	if len(ports) > 0 {
		rt.CapabilityArgs = map[string]any{"portMappings": ports}
	}
	return rt
}
