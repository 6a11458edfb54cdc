package exec

import (
	"os"
	"slices"
	"strings"
)

// inherited are the variables that a child gets from workerd: what programs need to start, to find their libraries, caches
// and devices. All others stay behind, since workerd's own hold its secrets. A name ending in "*" stands for all that
// begin so.
var inherited = []string{
	"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR", "TERM", "XDG_*",
	"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "LD_LIBRARY_PATH", "DYLD_*",
	"PYTHON*", "VIRTUAL_ENV", "CONDA_*",
	"CUDA_*", "NVIDIA_*", "NCCL_*", "HIP_*", "ROCR_*", "HSA_*", "ONEAPI_*", "ZE_*",
	"HF_*", "HUGGINGFACE_*", "TRANSFORMERS_*", "DIFFUSERS_*", "TORCH*", "PYTORCH_*", "TRITON_*", "XFORMERS_*",
	"OMP_*", "MKL_*", "OPENBLAS_*", "NUMEXPR_*",
}

// environment returns the variables of a child: the inherited ones, those of the configuration, and the number of the
// protocol's file.
func environment(configured map[string]string) []string {
	var variables []string
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if slices.ContainsFunc(inherited, func(pattern string) bool {
			start, open := strings.CutSuffix(pattern, "*")
			return name == pattern || open && strings.HasPrefix(name, start)
		}) {
			variables = append(variables, variable)
		}
	}
	for name, value := range configured {
		variables = append(variables, name+"="+value) // the last of a name counts
	}
	return append(variables, "DARKROOM_PROTOCOL_FD=3")
}
