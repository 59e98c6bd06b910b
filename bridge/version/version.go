// Package version holds the version that the Makefile builds in.
package version

// Version is set by the linker.
var Version = "0.0.0-dev"

// ABI is SLURMK8S_ABI of goffi/slurmk8s.h, between library, plugins and program.
const ABI = 1
