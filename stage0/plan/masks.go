package plan

import (
	"slices"

	"rkt/stage1/contract"
)

// maskedPaths are what of procfs and sysfs is hidden: files with the kernel's
// addresses and memory, with what other tenants do (timers, interrupts, power,
// temperature: side channels), and interfaces to hardware.
func (c *compiler) maskedPaths() []string {
	masked := []string{
		"/proc/acpi", "/proc/asound", "/proc/config.gz", "/proc/interrupts", "/proc/kallsyms", "/proc/kcore",
		"/proc/key-users", "/proc/keys", "/proc/kmsg", "/proc/kpagecgroup", "/proc/kpagecount",
		"/proc/kpageflags", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
		"/proc/timer_stats",
	}
	if c.files.Pod.Net.Mode == contract.NetHost {
		return masked // no sysfs
	}
	return slices.Concat(masked, []string{
		"/sys/devices/virtual/powercap", "/sys/firmware", "/sys/fs/bpf", "/sys/fs/fuse", "/sys/fs/pstore",
		"/sys/fs/selinux", "/sys/kernel/debug", "/sys/kernel/security", "/sys/kernel/tracing", "/sys/module",
		"/sys/power",
	}, c.facts.ThermalThrottle)
}

// readonlyPaths are what of procfs can be read and not written. The user
// namespace keeps an app from most of it; with the host's nothing else would.
func readonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}
