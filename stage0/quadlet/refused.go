package quadlet

// Reasons that several keys have.
const (
	noHealth       = "rkt has no health checks; an app can tell systemd itself with Notify=true and WatchdogSec= in [Service]"
	ownRange       = "rkt gives each pod an id range of its own; UserNS=host runs it with the host's ids"
	noSELinux      = "rkt gives apps no SELinux label"
	noArguments    = "arguments of podman mean nothing to rkt; see PodArgs= and AppArgs= in [X-Rkt]"
	ownRetries     = "rkt tries again by itself"
	noModules      = "rkt reads no containers.conf"
	noNetworkFiles = "rkt makes no networks of files; write Network=default, or Network=NAME for one of CNI that is configured in /etc/rkt/net.d"
)

// refusedContainerKeys are the keys of [Container] that rkt has nothing for. Who
// adds what one of them needs takes it from here into containerRules.
func refusedContainerKeys() []rule[*app] {
	rules := append([]rule[*app]{}, refused[*app]("the host reaches every port of a pod; PublishPort= is for others", "ExposeHostPort")...)
	rules = append(rules, refused[*app](noHealth, "HealthInterval", "HealthLogDestination", "HealthMaxLogCount", "HealthMaxLogSize", "HealthOnFailure",
		"HealthRetries", "HealthStartPeriod", "HealthStartupCmd", "HealthStartupInterval", "HealthStartupRetries", "HealthStartupSuccess",
		"HealthStartupTimeout", "HealthTimeout")...)
	rules = append(rules, refused[*app](ownRange, "UIDMap", "GIDMap", "SubUIDMap", "SubGIDMap", "RemapUsers", "RemapUid", "RemapGid", "RemapUidSize")...)
	rules = append(rules, refused[*app](noSELinux, "SecurityLabelFileType", "SecurityLabelLevel", "SecurityLabelNested", "SecurityLabelType")...)
	rules = append(rules, refused[*app](noArguments, "PodmanArgs", "GlobalArgs")...)
	rules = append(rules, refused[*app](ownRetries, "Retry", "RetryDelay")...)
	rules = append(rules, refused[*app](noModules, "ContainersConfModule")...)
	rules = append(rules, refused[*app]("apps get no devices of the host", "AddDevice")...)
	rules = append(rules, refused[*app]("what is hidden of /proc and /sys is rkt's decision", "Mask", "Unmask")...)
	rules = append(rules, refused[*app]("rkt loads no AppArmor profile", "AppArmor")...)
	rules = append(rules, refused[*app]("rkt has no store of secrets; LoadCredential= in [Service] reaches the app", "Secret")...)
	rules = append(rules, refused[*app]("nothing updates images by itself; Pull=newer fetches at each start", "AutoUpdate")...)
	rules = append(rules, refused[*app]("an app needs an image", "Rootfs")...)
	rules = append(rules, refused[*app]("streams are journald's; --stdout in AppArgs= of [X-Rkt] writes files", "LogOpt")...)
	return append(rules, refused[*app]("write Tmpfs=/tmp", "VolatileTmp")...)
}
