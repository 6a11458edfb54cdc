package main_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

// secrets are the variables that .env must set: no default may stand in for them.
func secrets() []string {
	return []string{"POSTGRES_PASSWORD", "DARKROOM_GATEWAY_PASSWORD", "DARKROOM_WORKERD_PASSWORD", "DARKROOM_SERVICE_KEY", "DARKROOM_JWT_SECRET"}
}

// loadCompose reads ../compose.yaml as the compose program does, with these variables.
func loadCompose(t *testing.T, environment types.Mapping, profiles ...string) (*types.Project, error) {
	t.Helper()
	return loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir:  "..",
		ConfigFiles: []types.ConfigFile{{Filename: "../compose.yaml"}},
		Environment: environment,
	}, loader.WithProfiles(profiles))
}

func compose(t *testing.T, profiles ...string) *types.Project {
	t.Helper()
	environment := types.Mapping{}
	for _, name := range secrets() {
		environment[name] = "value of " + name
	}
	project, err := loadCompose(t, environment, profiles...)
	if err != nil {
		t.Fatal(err)
	}
	return project
}

func TestComposeHasTheServices(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		profiles []string
		want     []string
	}{
		{nil, []string{"gateway", "migrate", "postgres", "workerd"}},
		{[]string{"gpu"}, []string{"gateway", "migrate", "postgres", "workerd", "workerd-gpu"}},
	} {
		got := compose(t, test.profiles...).ServiceNames()
		slices.Sort(got)
		if !slices.Equal(got, test.want) {
			t.Errorf("with profiles %q the services are %q, want %q", test.profiles, got, test.want)
		}
	}
}

func TestComposeGivesTheGPUToItsWorkerOnly(t *testing.T) {
	t.Parallel()
	for name, service := range compose(t, "gpu").Services {
		var devices []types.DeviceRequest
		if service.Deploy != nil && service.Deploy.Resources.Reservations != nil {
			devices = service.Deploy.Resources.Reservations.Devices
		}
		want := name == "workerd-gpu"
		got := len(devices) == 1 && devices[0].Driver == "nvidia" && devices[0].Count == 1 && slices.Equal(devices[0].Capabilities, []string{"gpu"})
		if got != want || !want && len(devices) > 0 {
			t.Errorf("%s reserves %+v", name, devices)
		}
	}
}

func TestComposeServicesAreCheckedAndLocal(t *testing.T) {
	t.Parallel()
	published := 0
	for name, service := range compose(t, "gpu").Services {
		if name == "migrate" { // it ends
			if service.HealthCheck != nil || len(service.Ports) > 0 {
				t.Error("migrate has a health check or a port")
			}
		} else if service.HealthCheck == nil || service.HealthCheck.Disable || len(service.HealthCheck.Test) < 2 {
			t.Errorf("%s has no health check", name)
		}
		for _, port := range service.Ports {
			published++
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes port %s on %q, want 127.0.0.1", name, port.Published, port.HostIP)
			}
		}
		if service.NetworkMode != "" || service.Privileged {
			t.Errorf("%s leaves its container: network mode %q, privileged %v", name, service.NetworkMode, service.Privileged)
		}
		for _, volume := range service.Volumes {
			if volume.Type != types.VolumeTypeVolume || volume.Source == "" {
				t.Errorf("%s mounts %s, which is no named volume", name, volume.Target)
			}
		}
		if service.Build == nil && !regexp.MustCompile(`:\d+\.\d+-`).MatchString(service.Image) {
			t.Errorf("%s uses %s, whose version is not pinned", name, service.Image)
		}
	}
	if published == 0 {
		t.Error("no port is published")
	}
}

func TestComposeBuildsStagesOfTheDockerfile(t *testing.T) {
	t.Parallel()
	dockerfile, err := os.ReadFile("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for name, service := range compose(t, "gpu").Services {
		if service.Build != nil && !strings.Contains(string(dockerfile), " AS "+service.Build.Target+"\n") {
			t.Errorf("%s is built from stage %q, which the Dockerfile lacks", name, service.Build.Target)
		}
	}
}

func TestComposeHasNoSecretOfItsOwn(t *testing.T) {
	t.Parallel()
	for _, missing := range secrets() {
		environment := types.Mapping{}
		for _, name := range secrets() {
			if name != missing {
				environment[name] = "a-secret"
			}
		}
		if _, err := loadCompose(t, environment); err == nil || !strings.Contains(err.Error(), "Set "+missing+" in .env") {
			t.Errorf("without %s: %v; want a sentence that says to set it", missing, err)
		}
	}
	login := map[string][2]string{
		"migrate": {"darkroom", "POSTGRES_PASSWORD"}, "gateway": {"darkroom_gateway", "DARKROOM_GATEWAY_PASSWORD"},
		"workerd": {"darkroom_workerd", "DARKROOM_WORKERD_PASSWORD"}, "workerd-gpu": {"darkroom_workerd", "DARKROOM_WORKERD_PASSWORD"},
	}
	secret := regexp.MustCompile(`PASSWORD|KEY|SECRET|TOKEN`)
	checked := 0
	for name, service := range compose(t, "gpu").Services {
		for variable, value := range service.Environment {
			if value == nil {
				continue
			}
			if secret.MatchString(variable) {
				checked++
				if !strings.HasPrefix(*value, "value of ") {
					t.Errorf("%s sets %s to %q, not from .env", name, variable, *value)
				}
			}
			if want := login[name]; variable == "DATABASE_URL" && !strings.HasPrefix(*value, "postgres://"+want[0]+"@") || variable == "PGPASSWORD" && *value != "value of "+want[1] {
				t.Errorf("%s logs in with %s %q, want %q", name, variable, *value, want)
			}
			if variable == "DATABASE_URL" && regexp.MustCompile(`//[^/@]*:[^/@]*@`).MatchString(*value) {
				t.Errorf("%s has a password in its DATABASE_URL", name)
			}
		}
	}
	if checked == 0 {
		t.Error("no secret was found to check")
	}
}
