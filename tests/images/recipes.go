package main

import (
	"slices"
	"strings"
)

// recipe says what an image is made of. It is plain data: its JSON is the key
// under which the image is cached.
type recipe struct {
	Name   string
	Config config
	Layers []layer
}

// config is the part of the image config that a recipe sets.
type config struct {
	Entrypoint   []string            `json:",omitempty"`
	Cmd          []string            `json:",omitempty"`
	Env          []string            `json:",omitempty"`
	User         string              `json:",omitempty"`
	WorkingDir   string              `json:",omitempty"`
	StopSignal   string              `json:",omitempty"`
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Volumes      map[string]struct{} `json:",omitempty"`
	Labels       map[string]string   `json:",omitempty"`
}

// layer is packages, then entries on top of them.
type layer struct {
	Packages []string `json:",omitempty"`
	Suite    string   `json:",omitempty"` // Debian release of the packages; "" = this host's
	Busybox  bool     `json:",omitempty"` // links for the applets of /bin/busybox
	Entries  []entry  `json:",omitempty"`
}

// entry is one entry of a layer's tar.
type entry struct {
	Path   string
	Type   string            `json:",omitempty"` // "" = file, "dir", "symlink", "hardlink", "fifo", "char"
	Body   string            `json:",omitempty"`
	Fill   int64             `json:",omitempty"` // this many bytes of a pattern instead of Body
	Link   string            `json:",omitempty"`
	Mode   int64             `json:",omitempty"` // 0 = 0644, folders 0755
	UID    int               `json:",omitempty"`
	GID    int               `json:",omitempty"`
	Xattrs map[string]string `json:",omitempty"`
}

const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// recipes are all images, smallest first.
func recipes() []recipe {
	return []recipe{
		{
			Name:   "busybox",
			Config: config{Cmd: []string{"sh"}, Env: []string{path}, Labels: map[string]string{"org.opencontainers.image.title": "busybox"}},
			Layers: []layer{{Packages: []string{"busybox-static"}, Busybox: true, Entries: accounts()}},
		},
		{
			Name: "nginx",
			Config: config{
				Entrypoint: []string{"/usr/sbin/nginx", "-c", "/etc/nginx/pod.conf"}, Env: []string{path}, StopSignal: "SIGQUIT",
				ExposedPorts: map[string]struct{}{"8080/tcp": {}},
			},
			Layers: []layer{
				{Packages: []string{"nginx-light", "busybox-static"}, Busybox: true, Entries: accounts("www-data:33")},
				{Entries: []entry{
					{Path: "etc/nginx/pod.conf", Body: nginxConf},
					{Path: "var/www/html/index.html", Body: "served from a pod\n"},
				}},
			},
		},
		{
			Name: "redis",
			Config: config{
				Entrypoint: []string{"entrypoint"}, Cmd: []string{"redis-server", "--dir", "/data", "--save", ""}, Env: []string{path},
				WorkingDir: "/data", ExposedPorts: map[string]struct{}{"6379/tcp": {}}, Volumes: map[string]struct{}{"/data": {}},
			},
			Layers: []layer{
				{Packages: []string{"redis-server", "redis-tools", "gosu", "busybox-static"}, Busybox: true, Entries: accounts("redis:999")},
				{Entries: []entry{
					{Path: "usr/local/bin/entrypoint", Mode: 0o755, Body: "#!/bin/sh\nset -e\nchown redis:redis /data\nexec gosu redis \"$@\"\n"},
					{Path: "data", Type: "dir"},
				}},
			},
		},
		{
			Name: "etcd",
			Config: config{
				Entrypoint: []string{"/usr/bin/etcd"}, Env: []string{path}, User: "etcd", WorkingDir: "/var/lib/etcd",
				ExposedPorts: map[string]struct{}{"2379/tcp": {}, "2380/tcp": {}}, Volumes: map[string]struct{}{"/var/lib/etcd": {}},
			},
			Layers: []layer{{
				Packages: []string{"etcd-server", "etcd-client", "busybox-static"}, Suite: "trixie", Busybox: true,
				Entries: slices.Concat(mergedUsr(), accounts("etcd:999"), []entry{{Path: "var/lib/etcd", Type: "dir", Mode: 0o700, UID: 999, GID: 999}}),
			}},
		},
		{
			Name:   "python",
			Config: config{Cmd: []string{"python3"}, Env: []string{path, "PYTHONDONTWRITEBYTECODE=1"}},
			Layers: []layer{
				{Packages: []string{"python3", "busybox-static"}, Busybox: true, Entries: accounts()},
				{Packages: []string{"python3-numpy", "python3-django", "python3-pandas-lib", "python3-cryptography"}, Entries: []entry{
					// What the packages' maintainer scripts would have set.
					{Path: "usr/lib/x86_64-linux-gnu/libblas.so.3", Type: "symlink", Link: "blas/libblas.so.3"},
					{Path: "usr/lib/x86_64-linux-gnu/liblapack.so.3", Type: "symlink", Link: "lapack/liblapack.so.3"},
				}},
			},
		},
		{Name: "layers", Config: config{Cmd: []string{"sh"}, Env: []string{path}}, Layers: difficultLayers()},
		{
			Name:   "big",
			Config: config{Cmd: []string{"sh"}, Env: []string{path}},
			Layers: []layer{
				{Packages: []string{"busybox-static", "bash", "coreutils"}, Busybox: true, Entries: accounts()},
				{Packages: []string{"gcc", "libboost1.74-dev"}},
				{Packages: []string{"golang-1.19-src"}},
				{Packages: []string{"nodejs", "npm"}},
				{Packages: []string{"python3-django", "python3-numpy"}},
				{Packages: []string{"perl", "tzdata", "locales", "perl-doc"}},
				{Entries: []entry{{Path: "etc/one.conf", Body: "one = 1\n"}}},
			},
		},
	}
}

// mergedUsr are the links at the root that packages since Debian 13 rely on.
func mergedUsr() (links []entry) {
	for _, dir := range []string{"bin", "lib", "lib64", "sbin"} {
		links = append(links, entry{Path: dir, Type: "symlink", Link: "usr/" + dir})
	}
	return links
}

// accounts are etc/passwd and etc/group with root, nobody, app (1000) and more
// of the form name:id.
func accounts(more ...string) []entry {
	passwd := "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\napp:x:1000:1000::/home/app:/bin/sh\n"
	group := "root:x:0:\nnogroup:x:65534:\napp:x:1000:\nstaff:x:50:app\n"
	for _, m := range more {
		name, id, _ := strings.Cut(m, ":")
		passwd += name + ":x:" + id + ":" + id + "::/:/usr/sbin/nologin\n"
		group += name + ":x:" + id + ":\n"
	}
	return []entry{
		{Path: "etc/passwd", Body: passwd},
		{Path: "etc/group", Body: group},
		{Path: "root", Type: "dir", Mode: 0o700},
		{Path: "home/app", Type: "dir", UID: 1000, GID: 1000},
		{Path: "tmp", Type: "dir", Mode: 0o1777},
	}
}

const nginxConf = `daemon off;
user www-data;
worker_processes 1;
pid /tmp/nginx.pid;
error_log /dev/stderr warn;
events { worker_connections 64; }
http {
	access_log off;
	client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi;
	uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
	server { listen 8080; listen [::]:8080; root /var/www/html; }
}
`

// difficultLayers are seven layers with what layers can do to each other:
// whiteouts, opaque folders, hard links, modes, owners, attributes, long names,
// empty files, files that become folders and folders that become links.
func difficultLayers() []layer {
	long := strings.Repeat("n", 255)
	return []layer{
		{Packages: []string{"busybox-static"}, Busybox: true, Entries: accounts()},
		{Entries: []entry{
			{Path: "gone/file", Body: "hidden by a later layer\n"},
			{Path: "opaque/old", Body: "hidden by an opaque folder\n"},
			{Path: "opaque/sub/old", Body: "as well\n"},
			{Path: "turns/into-folder", Body: "a file\n"},
			{Path: "turns/into-file/inside", Body: "a folder's\n"},
			{Path: "turns/into-link/inside", Body: "a folder's\n"},
			{Path: "kept", Body: "kept from the second layer\n", UID: 1000, GID: 50, Mode: 0o640},
		}},
		{Entries: []entry{
			{Path: "links/a", Body: "one inode\n"},
			{Path: "links/b", Type: "hardlink", Link: "links/a"},
			{Path: "links/deep/c", Type: "hardlink", Link: "links/a"},
			{Path: "links/absolute", Type: "symlink", Link: "/kept"},
			{Path: "links/up", Type: "symlink", Link: "../../../../../kept"},
			{Path: "links/dangling", Type: "symlink", Link: "nowhere"},
		}},
		{Entries: []entry{
			{Path: "modes/setuid", Body: "s", Mode: 0o4755},
			{Path: "modes/setgid", Body: "g", Mode: 0o2755, GID: 50},
			{Path: "modes/sticky", Type: "dir", Mode: 0o1777},
			{Path: "modes/closed", Type: "dir", Mode: 0o000},
			{Path: "modes/closed/file", Body: "in a closed folder\n", Mode: 0o400},
			{Path: "modes/fifo", Type: "fifo", Mode: 0o600},
			{Path: "modes/null", Type: "char"},
			{Path: "attributes", Body: "with\n", Xattrs: map[string]string{"user.colour": "green", "user.shape": "round"}},
			{Path: "names/" + long, Body: "long\n"},
			{Path: "names/empty"},
			{Path: "names/ leading space and\ttab", Body: "odd\n"},
			{Path: "names/ünï", Body: "not ASCII\n"},
		}},
		{Entries: []entry{
			{Path: "gone/.wh.file"},
			{Path: "opaque/.wh..wh..opq"},
			{Path: "opaque/new", Body: "new\n"},
			{Path: "turns/.wh.into-folder"},
			{Path: "turns/.wh.into-file"},
		}},
		{Entries: []entry{
			{Path: "turns/into-folder/inside", Body: "now a folder\n"},
			{Path: "turns/into-file", Body: "now a file\n"},
			{Path: "turns/into-link", Type: "symlink", Link: "into-folder"},
			{Path: "large", Fill: 3<<20 + 17},
		}},
		{Entries: []entry{
			{Path: "kept", Body: "replaced by the last layer\n"},
			{Path: "links/.wh.dangling"},
			{Path: "last", Body: "last\n"},
		}},
	}
}
