// What these modules declare as public is part of this module's interface: values that conversions, verifications and
// measurements take and return. They are re-exported as swift-collections' and swift-nio's umbrella modules re-export
// theirs. Type aliases would give a client the names only: with the upcoming feature MemberImportVisibility it could not
// read a single property of such a value without importing the module that declares it.
@_exported import NormFoldArithmetic
@_exported import NormFoldFolding
@_exported import NormFoldFormats
@_exported import NormFoldMeasurement
@_exported import NormFoldNetworks
@_exported import NormFoldTraining
@_exported import NormFoldVerify

/// Arranges the whole process for arithmetic, which a program may do once at its start and a library may not do unasked.
///
/// It stops the threads of OpenBLAS that wait for work by spinning, and lets glibc keep the memory of activations instead of
/// asking the system for it again and again. Nothing depends on it but speed.
///
///     prepareProcess()
public func prepareProcess() { prepareProcessForArithmetic() }
