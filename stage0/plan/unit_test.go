package plan

import (
	"slices"
	"strings"
	"testing"

	"rkt/stage1/contract"
)

// twoApps is a pod of the apps a and b.
func twoApps(change func(s *Spec, a, b *App)) Spec {
	return spec(func(s *Spec, a *App) {
		a.Name = "a"
		s.Apps = append(s.Apps, *a)
		s.Apps[1].Name = "b"
		if change != nil {
			change(s, &s.Apps[0], &s.Apps[1])
		}
	})
}

func TestAppThatSpeaksForThePod(t *testing.T) {
	for _, s := range []Spec{
		spec(func(s *Spec, a *App) { s.Notify, a.Name = "app", "a" }),
		twoApps(func(s *Spec, a, b *App) { s.Notify = "app:a" }),
	} {
		s.Apps[0].Environment = []string{"NOTIFY_SOCKET=/image/says/so"}
		files, err := Compile(s, facts)
		if err != nil {
			t.Fatal(err)
		}
		a := files.Apps[0]
		if files.Pod.Notify != contract.NotifyApp || !a.App.Notify || len(files.Apps) > 1 && files.Apps[1].App.Notify {
			t.Errorf("notify = %q, %v, want the app a", files.Pod.Notify, a.App.Notify)
		}
		var socket []string
		for _, v := range a.Spec.Process.Env {
			if strings.HasPrefix(v, "NOTIFY_SOCKET=") {
				socket = append(socket, v)
			}
		}
		if !slices.Equal(socket, []string{"NOTIFY_SOCKET=/run/host/notify"}) {
			t.Errorf("environment has %q", socket)
		}
		mounts := 0
		for _, m := range a.Spec.Mounts {
			if m.Destination == contract.NotifyPath && m.Source == "apps/a/notify" && slices.Contains(m.Options, "ro") {
				mounts++
			}
		}
		if mounts != 1 {
			t.Errorf("%d mounts of the socket in %v, want 1", mounts, a.Spec.Mounts)
		}
	}
}

func TestWhoNotifiesIsRefused(t *testing.T) {
	for notify, want := range map[string]string{
		"app": "--sd-notify=app:a", "app:c": `no app "c", there is a, b`, "pod:a": `only "app" takes`, "no:": `only "app" takes`,
		"yes": "none of pod, app, app:NAME, no", "app:": `no app ""`,
	} {
		refuse(t, twoApps(func(s *Spec, _, _ *App) { s.Notify = notify }), want)
	}
	refuse(t, spec(func(s *Spec, _ *App) { s.Notify, s.Features = "app", fly }), "--sd-notify=app")
}

func TestWhatIsHandedGoesToTheOnlyAppOrByName(t *testing.T) {
	every := []string{contract.Every}
	for _, tt := range []struct {
		name string
		spec Spec
		want [][2][]string // sockets and credentials of each app
	}{
		{"only app", spec(nil), [][2][]string{{every, every}}},
		{"only app, none", spec(func(_ *Spec, a *App) { a.Sockets, a.Credentials = []string{}, []string{} }), [][2][]string{{}}},
		{"several, nobody says", twoApps(nil), [][2][]string{{}, {}}},
		{"several, by name", twoApps(func(_ *Spec, a, b *App) {
			a.Sockets, b.Sockets, b.Credentials = []string{"http", "https"}, []string{"admin"}, every
		}), [][2][]string{{{"http", "https"}, nil}, {{"admin"}, every}}},
		{"no support", spec(func(s *Spec, _ *App) { s.Features = fly }), [][2][]string{{}}},
	} {
		files, err := Compile(tt.spec, facts)
		if err != nil {
			t.Fatal(err)
		}
		for i, a := range files.Apps {
			if !slices.Equal(a.App.Sockets, tt.want[i][0]) || !slices.Equal(a.App.Credentials, tt.want[i][1]) {
				t.Errorf("%s: app %d gets %q, %q, want %q", tt.name, i, a.App.Sockets, a.App.Credentials, tt.want[i])
			}
		}
	}
}

func TestHandedNamesAreRefused(t *testing.T) {
	for _, tt := range []struct {
		sockets, credentials []string
		want                 string
	}{
		{[]string{""}, nil, `--listen-fds: "" is not a name`},
		{[]string{"a:b"}, nil, `"a:b" is not a name`},
		{nil, []string{"../x"}, `--credentials: "../x" is not a name`},
		{nil, []string{".."}, "not a name"},
		{[]string{"a\n"}, nil, "not a name"},
		{[]string{"*", "a"}, nil, "either all or names"},
		{[]string{strings.Repeat("x", 256)}, nil, "not a name"},
	} {
		refuse(t, spec(func(_ *Spec, a *App) { a.Sockets, a.Credentials = tt.sockets, tt.credentials }), tt.want)
	}
	for _, both := range [][2]string{{"http", "http"}, {"*", "http"}, {"http", "*"}, {"*", "*"}} {
		refuse(t, twoApps(func(_ *Spec, a, b *App) { a.Sockets, b.Sockets = both[:1], both[1:] }), `"a" and "b" both take the socket`)
	}
	refuse(t, spec(func(_ *Spec, a *App) { a.Mounts = []Mount{{Source: "/srv", Target: "/run/host/credentials/x"}} }), "service manager")
}
