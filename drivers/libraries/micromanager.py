"""One Micro-Manager core for all devices of one configuration, every call of which comes back in time.

The core is native code, and so are the adapters below it. One that hangs would hang the program. Each call that reaches
a device is therefore made in a thread of the core's own, for which the caller waits only so long. After a call that
did not come back, the core answers nothing more: every further call is `DeviceLost` at once, and opening the device
again makes a new core. A crash of an adapter (a bad pointer) ends the process; nothing in the process can stop that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from drivers.backend import Found
from drivers.errors import DeviceError, DeviceLost, DeviceProtocolError, DeviceTimeout, NotConnected, OptionError
from drivers.libraries.loading import load
from drivers.libraries.worker import Worker
from drivers.options import Checked, option
from drivers.protocols import Identity, OpenContext
from drivers.resources import Shared
from groundwork.nearest import did_you_mean

T = TypeVar("T")

CAMERA, SHUTTER, SLM = "camera", "shutter", "SLM"
"""Kinds of devices, in words."""

TYPES = {CAMERA: "CameraDevice", SHUTTER: "ShutterDevice", SLM: "SLMDevice"}
"""What pymmcore-plus calls them."""

ROLES = {CAMERA: "camera", SHUTTER: "source", SLM: "slm"}

SERIALS = "SerialNumber", "Serial Number", "Serial number", "CameraID", "Camera ID", "Device ID"
"""Properties in which adapters say which instrument they talk to."""

PYTHON_DEVICE = "#py "
"""How a line of a configuration begins that only the core for devices in Python reads."""


@dataclass(frozen=True)
class MicroManagerOptions(Checked):
    """Which device: of a configuration file, or one that is given here.

    Attributes
    ----------
    config
        Path of a ``.cfg`` file of Micro-Manager. Devices that name the same file share one core.
    label
        Of the device in that file; empty where it has only one of its kind.
    library, device
        Instead of a file: the device adapter's library and the device's name in it. Such a device has a core of its
        own; one that needs a hub or a serial port is for a file.
    properties
        Of the device, by their names in Micro-Manager, set at opening in the order given.
    adapter_paths
        Folders with device adapters, besides those that pymmcore-plus finds.
    timeout_s
        Longest time for a call that has no time-out of its own: opening, a setting [s].
    """

    config: str = ""
    label: str = ""
    library: str = ""
    device: str = ""
    properties: Mapping[str, Any] = field(default_factory=dict)
    adapter_paths: tuple[str, ...] = ()
    timeout_s: float = option(0.1, 600, 10.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.config) == bool(self.library or self.device) or bool(self.library) != bool(self.device):
            raise OptionError(
                "which Micro-Manager device is not said",
                action="reading options",
                expected="config, or library and device",
                seen=f"config = {self.config!r}, library = {self.library!r}, device = {self.device!r}",
                hint='options = {config = "bench.cfg", label = "Camera"}',
            )


class Core:
    """A Micro-Manager core, and who uses which of its devices.

    Parameters
    ----------
    options
        Of the device that opens it.
    """

    def __init__(self, options: MicroManagerOptions) -> None:
        self._worker = Worker("Micro-Manager")
        self._timeout_s = options.timeout_s
        self._users: dict[str, str] = {}
        try:
            self.native: Any = self.call("make a core", lambda: _made(options))
            self.call("switch the automatic shutter off", lambda: self.native.setAutoShutter(False))
        except BaseException:
            self._worker.close()
            raise

    def call(self, what: str, function: Callable[[], T], timeout_s: float | None = None) -> T:
        """The result of ``function()``, which calls the core; errors of the core are told as `DeviceProtocolError`.

        Raises
        ------
        DeviceTimeout
            As `Worker.call`.
        DeviceLost
            When an earlier call has not come back.
        """
        if stuck := self._worker.stuck:
            raise DeviceLost(
                f"Micro-Manager did not come back from: {stuck}",
                action=what,
                hint="open the device again; if that fails, restart the program",
            )
        try:
            return self._worker.call(what, function, self._timeout_s if timeout_s is None else timeout_s)
        except DeviceTimeout as error:
            error.device = ""  # whoever asked knows which one it is
            raise
        except (RuntimeError, ValueError, IndexError, MemoryError, NotImplementedError) as error:
            raise DeviceProtocolError(
                f"Micro-Manager: {error}", action=what, seen=str(error), hint="the core's log says more"
            ) from error

    @property
    def is_stuck(self) -> bool:
        """Has a call not come back?"""
        return bool(self._worker.stuck)

    def take(self, label: str, kind: str, owner: str) -> None:
        """Say that a device of the station uses this one.

        Raises
        ------
        NotConnected
            When another one uses it, or, for a camera, another camera of the core: they would share one buffer.
        """
        for taken, user in self._users.items():
            if taken == label or (kind == CAMERA and self.native.getDeviceType(taken).name == TYPES[CAMERA]):
                raise NotConnected(
                    f"{taken} of this configuration is in use by {user}",
                    device=owner,
                    action="open",
                    expected="one camera for each core, and each device once",
                    seen=f"{label} asked for by {owner}",
                    hint="give the second camera a configuration file of its own",
                )
        self._users[label] = owner

    def give_back(self, label: str) -> None:
        """The device is not used any more."""
        self._users.pop(label, None)

    def labels(self, kind: str) -> tuple[str, ...]:
        """Devices of this kind in the core."""
        core = self.native
        return self.call("list devices", lambda: tuple(core.getLoadedDevicesOfType(_device_type(kind))))

    def set_properties(self, label: str, properties: Mapping[str, Any]) -> None:
        """Set a device's properties, and read them back.

        Raises
        ------
        OptionError
            When the device has no such property, refuses the value, or reads back another one.
        """
        known = self.call("list properties", lambda: tuple(self.native.getDevicePropertyNames(label)))
        for name, value in properties.items():
            text = _text(value)
            if name not in known:
                raise _not_taken(label, name, text, "one of " + ", ".join(known), "no such property")
            back = self._set(label, name, text)
            if not _same(text, back):
                raise _not_taken(label, name, text, text, back)

    def _set(self, label: str, name: str, text: str) -> str:
        """Set one property; what it reads back then."""
        core = self.native

        def set_and_read() -> str:
            core.setProperty(label, name, text)
            return str(core.getProperty(label, name))

        try:
            return self.call(f"set {name}", set_and_read)
        except DeviceProtocolError as error:
            allowed = self.call("ask for allowed values", lambda: _allowed(core, label, name))
            raise _not_taken(label, name, text, allowed, error.seen) from error

    def identity(self, label: str) -> Identity:
        """Vendor, model and serial number of a device, as far as its adapter says them."""
        core = self.native
        library, model, said, version = self.call(
            "identify",
            lambda: (
                core.getDeviceLibrary(label),
                core.getDeviceName(label),
                _said(core, label),
                core.getVersionInfo(),
            ),
        )
        return Identity(str(library) or "Python", str(model), said or label, str(version))

    def properties(self, label: str, timeout_s: float) -> dict[str, str]:
        """All properties of a device as they read back."""
        core = self.native
        return self.call(
            "read properties",
            lambda: {name: str(core.getProperty(label, name)) for name in core.getDevicePropertyNames(label)},
            timeout_s,
        )

    def close(self) -> None:
        """Unload all devices; a core that hangs is left alone."""
        try:
            if not self.is_stuck:
                self.call("unload devices", self.native.unloadAllDevices)
                self.call("end notifications", lambda: _end_notifications(self.native))
        finally:
            self._worker.close()


@dataclass(frozen=True)
class Handle:
    """One device of a core.

    Attributes
    ----------
    hold
        On the core.
    label
        Of the device in it.
    name
        What the station calls it.
    timeout_s
        For calls that have no time-out of their own [s].
    """

    hold: Shared[Core]
    label: str
    name: str
    timeout_s: float

    @property
    def core(self) -> Core:
        """The core that it is in."""
        return self.hold.value

    def call(self, what: str, function: Callable[[], T], timeout_s: float | None = None) -> T:
        """As `Core.call`, within this device's ``timeout_s`` where none is given; errors name the device."""
        try:
            return self.core.call(what, function, self.timeout_s if timeout_s is None else timeout_s)
        except DeviceError as error:
            error.device = error.device or self.name
            raise

    def release(self) -> None:
        """Let go of the device and of the core."""
        self.core.give_back(self.label)
        self.hold.release()


def hold(name: str, kind: str, options: MicroManagerOptions, context: OpenContext) -> Handle:
    """Open a device, with the core that it is in where no other device of the station has opened that.

    Parameters
    ----------
    name
        What the station calls it.
    kind
        `CAMERA`, `SHUTTER` or `SLM`.

    Raises
    ------
    NotConnected
        When the configuration does not load, or has no such device.
    OptionError
        When the device does not take its properties.
    """
    key = ("micromanager", str(Path(options.config).resolve())) if options.config else ("micromanager", "alone", name)
    shared = context.resources.share(key, lambda: Core(options), Core.close)
    core = shared.value
    taken = ""
    try:
        label = _label(core, name, kind, options)
        core.take(label, kind, name)
        taken = label
        core.set_properties(label, options.properties)
        core.call("wait for the device", lambda: core.native.waitForDevice(label))
        return Handle(shared, label, name, options.timeout_s)
    except BaseException:
        core.give_back(taken)
        shared.release()
        raise


def found(kind: str) -> list[Found]:
    """What could be opened without a configuration: the simulated devices that come with Micro-Manager.

    Which real devices are connected only a configuration file knows.
    """
    core = load("pymmcore_plus:CMMCorePlus")()
    try:
        if "DemoCamera" not in core.getDeviceAdapterNames():
            return []
        kinds = core.getAvailableDeviceTypes("DemoCamera")
        names = core.getAvailableDevices("DemoCamera")
    finally:
        _end_notifications(core)
    return [
        Found(
            ROLES[kind],
            Identity("DemoCamera", device, device),
            {"library": "DemoCamera", "device": device},
            "simulated by Micro-Manager; real devices are for a configuration file",
        )
        for device, type_ in zip(names, kinds, strict=True)
        if int(type_) == int(_device_type(kind))
    ]


def _end_notifications(core: Any) -> None:
    """Let a core say nothing more to Python: a word that comes while Python ends aborts the process.

    pymmcore-plus does that itself when the object is collected, which may be too late.
    """
    load("pymmcore:CMMCore").registerCallback(core, None)


def _device_type(kind: str) -> Any:
    return load(f"pymmcore_plus:DeviceType.{TYPES[kind]}")


def _made(options: MicroManagerOptions) -> Any:
    """A core, with the configuration loaded or the device's library within reach."""
    path = Path(options.config)
    if options.config and not path.is_file():
        raise NotConnected(
            "Micro-Manager's configuration file is not there", action="open", expected="a .cfg file", seen=str(path)
        )
    in_python = bool(options.config) and any(
        line.startswith(PYTHON_DEVICE) for line in path.read_text(errors="replace").splitlines()
    )
    core = load("pymmcore_plus.experimental.unicore:UniMMCore" if in_python else "pymmcore_plus:CMMCorePlus")()
    core.setDeviceAdapterSearchPaths([*core.getDeviceAdapterSearchPaths(), *options.adapter_paths])
    core.setTimeoutMs(round(1e3 * options.timeout_s))
    if options.config:
        try:
            core.loadSystemConfiguration(str(path))
        except Exception as error:
            raise NotConnected(
                f"Micro-Manager does not load its configuration: {error}",
                action="open",
                expected=str(path),
                seen=str(error),
                hint="load the file in Micro-Manager itself; the adapters' version must fit that of the core",
            ) from error
    return core


def _label(core: Core, name: str, kind: str, options: MicroManagerOptions) -> str:
    """The device that the options mean; one without a file is loaded here."""
    if options.device:
        _load_alone(core, name, kind, options)
        return name
    labels = core.labels(kind)
    if options.label in labels:
        return options.label
    if not options.label and len(labels) == 1:
        return labels[0]
    raise NotConnected(
        f"the configuration has no {kind} {options.label}" if options.label else f"which {kind} is not said",
        device=name,
        action="open",
        expected=f"one of {', '.join(labels)}" if labels else f"a {kind} in {options.config}",
        seen=options.label or f"{len(labels)} of them and no label",
        hint=f'options = {{config = "{options.config}", label = "{labels[0]}"}}' if labels else "",
    )


def _load_alone(core: Core, name: str, kind: str, options: MicroManagerOptions) -> None:
    """Load one device, set what must be set before it is initialised, and initialise it."""
    native = core.native
    libraries = core.call("list libraries", lambda: tuple(native.getDeviceAdapterNames()))
    if options.library not in libraries:
        raise NotConnected(
            "the device adapter is not installed",
            device=name,
            action="open",
            expected="one of " + (", ".join(libraries) or "none: no adapter is installed"),
            seen=options.library,
            hint=did_you_mean(
                options.library, libraries, "mmcore install, or adapter_paths = [the folder of Micro-Manager]"
            ),
        )
    try:
        core.call("load the device", lambda: native.loadDevice(name, options.library, options.device))
        before = {
            key: value
            for key, value in options.properties.items()
            if native.hasProperty(name, key) and native.isPropertyPreInit(name, key)
        }
        core.set_properties(name, before)
        core.call("initialise the device", lambda: native.initializeDevice(name))
    except DeviceProtocolError as error:
        raise NotConnected(
            f"the device does not open: {error}",
            device=name,
            action="open",
            expected=f"device {options.device} of the library {options.library}",
            seen=error.seen,
        ) from error
    seen = native.getDeviceType(name).name
    if seen != TYPES[kind]:
        raise NotConnected(f"{options.device} is no {kind}", device=name, action="open", expected=kind, seen=seen)


def _said(core: Any, label: str) -> str:
    """What the adapter says of which instrument it is; empty where it says nothing."""
    names = (name for name in SERIALS if core.hasProperty(label, name))
    return next((text for name in names if (text := str(core.getProperty(label, name)).strip())), "")


def _allowed(core: Any, label: str, name: str) -> str:
    """What a property may be, in words."""
    values = core.getAllowedPropertyValues(label, name)
    if values:
        return "one of " + ", ".join(values)
    if core.isPropertyReadOnly(label, name):
        return "nothing: it is read only"
    if core.hasPropertyLimits(label, name):
        return f"{core.getPropertyLowerLimit(label, name):g} … {core.getPropertyUpperLimit(label, name):g}"
    return "a value that the device takes"


def _text(value: Any) -> str:
    """As Micro-Manager writes it: ``True`` is 1."""
    return str(int(value)) if isinstance(value, bool) else str(value)


def _same(asked: str, back: str) -> bool:
    """Is what reads back what was asked for, up to how a number is rounded?"""
    try:
        return abs(float(asked) - float(back)) <= 1e-3 * abs(float(asked)) + 1e-9
    except ValueError:
        return asked == back


def _not_taken(label: str, name: str, value: str, expected: str, seen: str) -> OptionError:
    return OptionError(
        f"{label} does not take {name} = {value!r}",
        action="set a property",
        expected=expected,
        seen=seen,
        hint="names and values are those of Micro-Manager's Device Property Browser",
    )
